"""Average pooling as every reader of ONNX computes it alike."""

from typing import Any


def exact_pooling(model: Any) -> None:
    """Write poolings that count their padding, and round their output up, as a padding and a pooling, in place.

    A last window may reach out of the padded map. torch, and ONNX since its version 19, count what it has in the map
    and its padding; OpenVINO counts the whole window. On a map that is padded already, a pooling that does not count
    padding gives the first for both.

    Args:
        model: an `onnx.ModelProto`.
    """
    import numpy as np
    from onnx import helper, numpy_helper, shape_inference

    graph, sizes = model.graph, None
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        pads = settings.get("pads", [])
        odd = settings.get("ceil_mode") and settings.get("count_include_pad") and any(pads)
        if node.op_type != "AveragePool" or not odd:
            continue
        if sizes is None:
            sizes = _sizes(shape_inference.infer_shapes(model).graph)
        axes = len(pads) // 2
        kernel, stride = settings["kernel_shape"], settings.get("strides") or [1] * axes
        before, after = list(pads[:axes]), list(pads[axes:])
        for axis in range(axes):
            known, given = (sizes.get(name, {}).get(axis + 2) for name in (node.input[0], node.output[0]))
            if known and given:  # torch leaves out a last window that would begin in the padding behind the map
                needed = (given - 1) * stride[axis] + kernel[axis] - before[axis] - known
                after[axis] = min(after[axis], needed)
        padded, amounts = f"{node.output[0]}_padded", f"{node.output[0]}_pads"
        graph.initializer.append(
            numpy_helper.from_array(np.array([0, 0, *before, 0, 0, *after], dtype=np.int64), amounts)
        )
        settings |= {"pads": [0] * len(pads), "count_include_pad": 0, "ceil_mode": 1}
        pooling = helper.make_node("AveragePool", [padded], node.output, name=node.name, **settings)
        padding = helper.make_node("Pad", [node.input[0], amounts], [padded], name=f"{node.name}_pad")
        graph.node.remove(node)
        graph.node.insert(place, pooling)
        graph.node.insert(place, padding)


def _sizes(graph: Any) -> dict[str, dict[int, int]]:
    """The sizes that are known of every value, by axis."""
    return {
        value.name: {
            axis: one.dim_value for axis, one in enumerate(value.type.tensor_type.shape.dim) if one.dim_value > 0
        }
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
