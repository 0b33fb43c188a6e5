"""Image graphs: ONNX that takes one image of any size, and does itself what `cnn.data.images` does before a network.

They are written in ONNX's own text format (https://onnx.ai/onnx/repo-docs/Syntax.html).
"""

from pathlib import Path

import numpy as np

from cnn.data.images import KEPT_SHORT_SIDE, Preprocessing

#: Shrinking, as `cnn.data.images.keep`, and the view, as `center_view`: Pillow's bilinear filter as two products of
#: matrices, each of which Pillow rounds to whole values.
_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
view (uint8[height, width, 3] image) => (float[1, 3, {side}, {side}] data)
<float zero = {{0.0}}, float half = {{0.5}}, float one = {{1.0}}, int64 y = {{0}}, int64 x = {{1}},
int64[1] first = {{0}}, int64[1] second = {{2}}, int64[1] last = {{-1}}, int64[2] one_of_three = {{1, 3}},
float most = {{{most}.0}}, float side = {{{side}.0}}, float short_side = {{{short_side}.0}}>
{{
    shape = Shape (image)
    stored = Slice (shape, first, second)
    sides = Cast <to = 1> (stored)
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
    values = Cast <to = 1> (resized)

    kept_shortest = ReduceMin <keepdims = 0> (kept)
    step = Div (kept_shortest, short_side)
    support = Max (step, one)
    numbers = Range (zero, side, one)
    halves = Add (numbers, half)
    steps = Mul (halves, step)
    covered = Mul (step, side)
    half_view = Mul (covered, half)
    {rows}
    {columns}
    turned = Transpose <perm = [1, 0]> (x_shares)
    narrow = MatMul (values, turned)
    narrow_half = Add (narrow, half)
    narrow_whole = Floor (narrow_half)
    view = MatMul (y_shares, narrow_whole)
    view_half = Add (view, half)
    pixels = Floor (view_half)
    {scaling}
}}"""
#: Of one axis, the share that each pixel of the image has in each pixel of the view, (crop, length).
_SHARES = """
    {axis}_length = Gather (kept, {axis})
    {axis}_numbers = Range (zero, {axis}_length, one)
    {axis}_places = Add ({axis}_numbers, half)
    {axis}_middle = Mul ({axis}_length, half)
    {axis}_start = Sub ({axis}_middle, half_view)
    {axis}_row = Add ({axis}_start, steps)
    {axis}_centers = Unsqueeze ({axis}_row, last)
    {axis}_offsets = Sub ({axis}_centers, {axis}_places)
    {axis}_distances = Abs ({axis}_offsets)
    {axis}_relative = Div ({axis}_distances, support)
    {axis}_near = Sub (one, {axis}_relative)
    {axis}_weights = Relu ({axis}_near)
    {axis}_sums = ReduceSum ({axis}_weights, last)
    {axis}_shares = Div ({axis}_weights, {axis}_sums)"""
_STANDARDISED = """
    centred = Sub (pixels, mean)
    data = Div (centred, std)"""
_STRETCHED = """
    least = ReduceMin (pixels)
    greatest = ReduceMax (pixels)
    range = Sub (greatest, least)
    divisor = Max (range, one)
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
