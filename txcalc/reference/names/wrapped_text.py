"""Text parts of Qwen's, GLM's and Baidu's models that see, by themselves: the names of the decoders that they are."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.kin import GLM, GLM4
from txcalc.reference.names.kin_moe import SHARED
from txcalc.reference.names.llama import DECODER, FREQUENCIES
from txcalc.reference.names.mixtures import MIXTURE
from txcalc.reference.names.table import Table

_AMID: Final = (("model.language_model.", ""), ("model.", ""))  # as files of the whole model spell them, new and old


def _table(text: str) -> Table:
    return Table.of(text.replace("model.", ""), older=_AMID, not_weights=FREQUENCIES)


TABLES: Final = {
    **dict.fromkeys(
        "qwen2_vl_text qwen2_5_vl_text qwen2_5_omni_text qwen3_vl_text paddleocr_vl_text".split(), _table(DECODER)
    ),
    **dict.fromkeys("glm4v_text glm_ocr_text".split(), _table(DECODER + GLM + GLM4)),
    **dict.fromkeys("qwen3_vl_moe_text qwen3_omni_moe_text".split(), _table(DECODER + MIXTURE)),
    "glm4v_moe_text": _table(DECODER + MIXTURE + SHARED),
}
