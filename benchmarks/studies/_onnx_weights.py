"""Weights of a quantised ONNX file, by the names that the parameters of a transformers DistilBERT have."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

Weights = dict[str, np.ndarray]

#: Nodes that change how a value is stored and not what it is.
PASSING = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
TABLES = "distilbert.embeddings.{}_embeddings.weight"


def onnx_weights(path: Path) -> Weights:
    """All parameters in float32.

    Matrices have lost their names in the file; each gets that of the bias that is added to its product.
    """
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            stored[node.output[0]] = _dequantised(node, stored)
    found = {name: value for name, value in stored.items() if name.endswith((".weight", ".bias")) and "/" not in name}
    found |= dict(_tables(graph, stored))
    found |= dict(_maps(graph, stored))
    return {name: value.astype(np.float32) for name, value in found.items()}


def _tables(graph: onnx.GraphProto, stored: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """Embeddings of words and places; those of places may be folded into a constant."""
    for value in stored.values():
        if value.dtype == np.float32 and value.shape[-2:] == (512, 768):
            yield TABLES.format("position"), value.reshape(512, 768)
            break
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in stored and stored[node.input[0]].ndim == 2:
            table = stored[node.input[0]]
            yield TABLES.format("word" if len(table) > 1000 else "position"), table


def _maps(graph: onnx.GraphProto, stored: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """Matrices and biases of linear maps."""
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for bias, product in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
            name, made = _name(bias, makers), _maker(product, makers, stored)
            if name.endswith(".bias") and made is not None and made.op_type == "MatMul" and made.input[1] in stored:
                yield f"{name.removesuffix('bias')}weight", stored[made.input[1]].T
                yield name, stored[bias]


def _maker(name: str, makers: Mapping[str, onnx.NodeProto], stored: Weights) -> onnx.NodeProto | None:
    """The node that computed a value, behind those that only store it otherwise."""
    while name not in stored and name in makers:
        if makers[name].op_type not in PASSING:
            return makers[name]
        name = makers[name].input[0]
    return None


def _name(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The name under which a value was stored, before it was dequantised."""
    node = makers.get(name)
    source = node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name
    return source.replace("_quantized", "")


def _dequantised(node: onnx.NodeProto, stored: Weights) -> np.ndarray:
    quantised, scale = stored[node.input[0]].astype(np.float32), stored[node.input[1]]
    zero = stored[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.zeros_like(scale, np.float32)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    if scale.ndim == 1 and scale.size > 1:
        shape = [1] * quantised.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (quantised - zero) * scale
