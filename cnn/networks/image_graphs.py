"""Image graphs: ONNX that takes one image of any size, and does itself what `cnn.data.images` does before a network.

They are written in ONNX's own text format (https://onnx.ai/onnx/repo-docs/Syntax.html).
"""

from pathlib import Path

import numpy as np

from cnn.data.images import KEPT_SHORT_SIDE, Preprocessing

#: Shrinking, as `cnn.data.images.keep`, and the view, as `center_view`: Pillow's bilinear filter as two products of
#: matrices, to the bit: corners are floats, shares are rounded to units of 2^-22, and both products to whole values.
#: Only tall images differ by a level here and there, as Pillow filters their columns first.
_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
view (uint8[height, width, 3] image) => (float[1, 3, {side}, {side}] data)
<double zero = {{0.0}}, double half = {{0.5}}, double one = {{1.0}}, double units = {{4194304.0}},
int64 y = {{0}}, int64 x = {{1}},
int64[1] first = {{0}}, int64[1] second = {{2}}, int64[1] last = {{-1}}, int64[2] one_of_three = {{1, 3}},
double most = {{{most}.0}}, double side = {{{side}.0}}, double short_side = {{{short_side}.0}}>
{{
    shape = Shape (image)
    stored = Slice (shape, first, second)
    sides = Cast <to = 11> (stored)
    shortest = ReduceMin <keepdims = 0> (sides)
    ratio = Div (most, shortest)
    scaled = Mul (sides, ratio)
    rounded = Round (scaled)
    shrunk = Max (rounded, most)
    is_large = Greater (shortest, most)
    kept = Where (is_large, shrunk, sides)
    kept_sizes = Cast <to = 7> (kept)
    sizes = Concat <axis = 0> (one_of_three, kept_sizes)
    channels = Transpose <perm = [2, 0, 1]> (image)
    batch = Unsqueeze (channels, first)
    resized = Resize <mode = "linear", antialias = 1> (batch, , , sizes)
    values = Cast <to = 11> (resized)

    kept_shortest = ReduceMin <keepdims = 0> (kept)
    enlarged = Mul (side, kept_shortest)
    covered = Div (enlarged, short_side)
    numbers = Range (zero, side, one)
    halves = Add (numbers, half)
    {rows}
    {columns}
    x_turned = Transpose <perm = [1, 0]> (x_shares)
    narrow = MatMul (values, x_turned)
    narrow_values = Div (narrow, units)
    narrow_half = Add (narrow_values, half)
    narrow_whole = Floor (narrow_half)
    view = MatMul (y_shares, narrow_whole)
    view_values = Div (view, units)
    view_half = Add (view_values, half)
    view_whole = Floor (view_half)
    pixels = Cast <to = 1> (view_whole)
    {scaling}
}}"""
#: Of one axis, the share that each pixel of the image has in each pixel of the view, in units, (side, length).
_SHARES = """
    {axis}_length = Gather (kept, {axis})
    {axis}_outside = Sub ({axis}_length, covered)
    {axis}_from = Mul ({axis}_outside, half)
    {axis}_to = Add ({axis}_from, covered)
    {axis}_from_float = Cast <to = 1> ({axis}_from)
    {axis}_to_float = Cast <to = 1> ({axis}_to)
    {axis}_start = Cast <to = 11> ({axis}_from_float)
    {axis}_end = Cast <to = 11> ({axis}_to_float)
    {axis}_span = Sub ({axis}_end, {axis}_start)
    {axis}_step = Div ({axis}_span, side)
    {axis}_support = Max ({axis}_step, one)
    {axis}_steps = Mul (halves, {axis}_step)
    {axis}_row = Add ({axis}_start, {axis}_steps)
    {axis}_centers = Unsqueeze ({axis}_row, last)
    {axis}_numbers = Range (zero, {axis}_length, one)
    {axis}_places = Add ({axis}_numbers, half)
    {axis}_offsets = Sub ({axis}_centers, {axis}_places)
    {axis}_distances = Abs ({axis}_offsets)
    {axis}_relative = Div ({axis}_distances, {axis}_support)
    {axis}_near = Sub (one, {axis}_relative)
    {axis}_weights = Relu ({axis}_near)
    {axis}_sums = ReduceSum ({axis}_weights, last)
    {axis}_fractions = Div ({axis}_weights, {axis}_sums)
    {axis}_in_units = Mul ({axis}_fractions, units)
    {axis}_in_units_half = Add ({axis}_in_units, half)
    {axis}_shares = Floor ({axis}_in_units_half)"""
_STANDARDISED = """
    centred = Sub (pixels, mean)
    data = Div (centred, std)"""
_STRETCHED = """
    least = ReduceMin (pixels)
    greatest = ReduceMax (pixels)
    range = Sub (greatest, least)
    least_range = Cast <to = 1> (one)
    divisor = Max (range, least_range)
    above = Sub (pixels, least)
    data = Div (above, divisor)"""


def add_preprocessing(network: Path, path: Path, preprocessing: Preprocessing) -> None:
    """Write the ONNX file of a network anew, so that it takes an upright RGB image, uint8 (height, width, 3).

    Its outputs are those of ``network`` for a batch of that one image. What a network saw in training is JPEG of an
    image whose shorter side had more than 512 px; this sees what such an image is before it is compressed.
    """
    import onnx  # slow

    standardised = preprocessing.mean and preprocessing.std
    view = onnx.parser.parse_model(
        _GRAPH.format(
            ir=onnx.IR_VERSION,
            opset=onnx.defs.onnx_opset_version(),  # as MXNet's export
            side=preprocessing.crop,
            short_side=preprocessing.short_side,
            most=KEPT_SHORT_SIDE,
            rows=_SHARES.format(axis="y"),
            columns=_SHARES.format(axis="x"),
            scaling=_STANDARDISED if standardised else _STRETCHED,
        )
    )
    for name in ("mean", "std") if standardised else ():
        values = 255 * np.array(getattr(preprocessing, name), np.float32).reshape(1, 3, 1, 1)
        view.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model = onnx.load(network)
    both = onnx.compose.merge_models(view, model, io_map=[("data", "data")])
    onnx.helper.set_model_props(both, {each.key: each.value for each in model.metadata_props})
    onnx.save(both, path)
