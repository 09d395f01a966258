#!/usr/bin/env bash
# Demonstration: installs what Nomaly needs to run, then trains, calibrates, evaluates and detects on synthetic images (about 5 minutes on 2 cores).
# Safe to run again: a finished training is not repeated, a stopped one resumes. Options go to `nomaly demo`, such as --bundle memmc_pneumonia or --output FOLDER.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
nomaly demo "$@"
