"""Whether the modality, body part and view of a DICOM image are those that a detector was made for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

# Terms of DICOM PS3.3 C.7.3.1.1.1 (Modality) and PS3.16 annex L (BodyPartExamined), with the views and short forms that
# devices write. Only these lead to rejection, and only these are printed: any other text may be a word of the site's
# language, or a name. Combined parts such as HEADNECK are accepted by either of their parts.
MODALITIES = "BMD CR CT DG DR DX ES GM IO IVUS LS MG MR NM OCT OP OPM OPT PT PX RF RG SM TG US XA XC"
BODY_PARTS = """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA APPENDIX ARM AXILLA BACK BILEDUCT BLADDER BOWEL BRAIN BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEST CHESTABDOMEN CLAVICLE COCCYX COLON CORONARY CSPINE CTSPINE
    DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE FACE FACIAL FEMUR FIBULA FINGER FOOT FOREARM GALLBLADDER GROIN HAND HEAD
    HEADNECK HEART HIP HUMERUS ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG MANDIBLE MAXILLA
    MEDIASTINUM MOUTH NECK NOSE ORBIT OVARY PANCREAS PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB RIBS SACRUM SCALP
    SCAPULA SCROTUM SHOULDER SIGMOID SINUS SKULL SPINE SPLEEN SSPINE STERNUM STOMACH TESTIS THIGH THORAX THUMB THYMUS
    THYROID TIBIA TLSPINE TOE TONGUE TRACHEA TSPINE URETER URETHRA UTERUS VAGINA WRIST ZYGOMA
"""
LONG_BODY_PARTS = ("LOWER EXTREMITY", "UPPER EXTREMITY", "LOWER LIMB", "UPPER LIMB", "LOWER LEG", "UPPER ARM")
VIEWS = """
    AP PA LL RL LAT LATERAL LLD RLD DECUBITUS LLO RLO LAO RAO LPO RPO OBL OBLIQUE DP PD DV VD AXIAL TANGENTIAL SUNRISE
    SWIMMER CC MLO ML LM LMO SIO XCC XCCL XCCM FB ISO CV AT
"""
KNOWN = {
    "modality": tuple(MODALITIES.split()),
    "body_part": (*LONG_BODY_PARTS, *BODY_PARTS.split()),
    "view": tuple(VIEWS.split()),
}
TAGS = {
    "modality": ("modality", "Modality"),
    "body_part": ("body part", "BodyPartExamined"),
    "view": ("view", "ViewPosition"),
}


def tag_reason(name: str, found: str, accepted: Sequence[str] | None) -> str | None:
    """Why an image with this tag is not accepted; None if it is accepted, or the value is not a known term.

    Args:
        name: "modality", "body_part" or "view".
        found: value of the tag.
        accepted: accepted terms; None = all.
    """
    if accepted is None:
        return None
    fits = {"modality": is_one_of, "body_part": names_part, "view": has_word}[name]
    term = known_term(found, KNOWN[name])
    if term is None or fits(found, accepted):
        return None
    meaning, keyword = TAGS[name]
    return f"the {meaning} is {term} (DICOM {keyword}); this detector is made for {', '.join(accepted)}"


def known_term(found: str, terms: Sequence[str]) -> str | None:
    """The first of these terms that a value equals or contains as a word, also in the plural; None if no term does."""
    present = {letters(found), *words(found)}
    return next((term for term in terms if not present.isdisjoint((letters(term), f"{letters(term)}S"))), None)


def words(found: str) -> list[str]:
    """The words of a value in upper case, letters only."""
    return "".join(letter if letter.isalpha() else " " for letter in found.upper()).split()


@lru_cache(maxsize=512)  # more than all known terms, which are compared with every tag
def letters(found: str) -> str:
    """The letters of a value in upper case, without anything else."""
    return "".join(words(found))


def is_one_of(found: str, accepted: Sequence[str]) -> bool:
    """Whether a value is one of the accepted terms."""
    return letters(found) in map(letters, accepted)


def names_part(found: str, accepted: Sequence[str]) -> bool:
    """Whether a value contains an accepted term or is part of one, as sites write BodyPartExamined differently.

    HEADNECK includes the head, EXTREMITY may be the UPPER EXTREMITY; the LOWER EXTREMITY may not.
    """
    part = letters(found)
    return any(term in part or (part in term and len(part) > 2) for term in map(letters, accepted))


def has_word(found: str, accepted: Sequence[str]) -> bool:
    """Whether one of the words of a value is accepted, as in "AP ERECT"."""
    return not set(words(found)).isdisjoint(map(letters, accepted))
