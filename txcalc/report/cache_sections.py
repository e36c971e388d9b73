"""The KV cache tree as tables."""

from __future__ import annotations

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import binary_bytes


def cache_section(tree: Node) -> Section:
    """A row for each kind of caching layer, the total, and the other views."""
    needed = tree.find("kv_cache.total_bytes")
    rows = [_layer_row(node) for node in needed.children]
    rows.append(_bytes_row("total", needed, strong=True))
    rows.append(_bytes_row("reserved at full length", tree.find("kv_cache.reserved_bytes")))
    rows.append(_bytes_row("one token, all layers", tree.find("kv_cache.bytes_per_token")))
    rows.append(_bytes_row("one more token here", tree.find("kv_cache.marginal_bytes_per_token")))
    state = tree.find("kv_cache.state_bytes")
    if state.value:
        rows.append(_bytes_row("fixed state, per sequence", state))
    return Section(columns=("", "layers", "tokens", "bytes", ""), rows=tuple(rows), detail="formula")


def _layer_row(node: Node) -> Row:
    symbols = node.symbols()
    tokens = symbols.get("S_source", min(symbols.get("S", 0), symbols.get("window", symbols.get("S", 0))))
    cells = (node.name, f"{symbols.get('L', 0):,}", f"{tokens:,}", f"{node.value:,}", binary_bytes(node.value))
    return Row(cells=cells, detail=node.formula())


def _bytes_row(name: str, node: Node, *, strong: bool = False) -> Row:
    return Row(cells=(name, "", "", f"{node.value:,}", binary_bytes(node.value)), strong=strong)


def variants_section(variants: list[Node]) -> Section:
    """MHA, GQA, MQA."""
    rows = []
    for node in variants:
        total, per_token, ratio = node.children
        cells = (node.name, f"{per_token.value:,}", f"{total.value:,}", binary_bytes(total.value), f"{ratio.value:g}x")
        rows.append(Row(cells=cells))
    columns = ("the same shape as", "bytes/token", "bytes", "", "smaller")
    return Section(columns=columns, rows=tuple(rows))


def paging_section(tree: Node, block_size: int) -> Section:
    """What an engine of fixed blocks takes."""
    rows = (
        Row(cells=("blocks per sequence", f"{tree.find('kv_cache.blocks_per_sequence').value:,}", "")),
        _two("bytes in blocks", tree.find("kv_cache.block_bytes")),
        _two("lost to rounding up", tree.find("kv_cache.block_waste_bytes")),
    )
    return Section(columns=(f"in blocks of {block_size} tokens", "", ""), rows=rows)


def fit_section(nodes: list[Node], budget: int) -> Section:
    """What fits in a budget."""
    rows = tuple(Row(cells=(node.name.replace("_", " "), _count(node), "")) for node in nodes)
    return Section(
        columns=(f"room in {budget:,} bytes ({binary_bytes(budget)}), for the cache alone", "", ""), rows=rows
    )


def _count(node: Node) -> str:
    return "any number" if node.note else f"{node.value:,}"


def _two(name: str, node: Node) -> Row:
    return Row(cells=(name, f"{node.value:,}", binary_bytes(node.value)))
