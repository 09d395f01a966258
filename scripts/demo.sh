#!/usr/bin/env bash
# See Nomaly work: installs itself, then trains, calibrates, evaluates and infers on synthetic images (about 5 minutes on 2 cores).
# Safe to run again: a finished or stopped training is not repeated. Options go to `nomaly demo`, such as --bundle memmc_pneumonia or --output FOLDER.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
nomaly demo "$@"
