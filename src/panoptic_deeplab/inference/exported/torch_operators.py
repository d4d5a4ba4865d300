"""The operators that a program in a `.pt2` may call.

They are those that networks of timm, our own, and the pipeline of `export/graph/whole.py` are made of, and their near
relatives: functions of tensors and numbers that check sizes and indices. What reads files (`from_file`), takes memory
as it is (`set_`, `as_strided`, `resize_`) or skips checks (`_unsafe_index`) is not among them. A name that ends in `_`
writes into its first argument, which is a tensor of the program itself.
"""

NAMESPACE = "torch.ops.aten."

_NAMES = {
    "numbers and comparisons": """
        abs abs_ add add_ atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_ clamp_max
        clamp_min clamp_min_ cos cosh cumsum div div_ eq erf exp exp_ expm1 floor floor_divide fmod ge gt isfinite
        isinf isnan le lerp log log1p log2 logical_and logical_not logical_or logical_xor lt maximum minimum mul
        mul_ ne neg neg_ pow reciprocal remainder round rsqrt rsub sign sin sinh sqrt square sub sub_ tan tanh tanh_
        true_divide trunc where __and__ __or__ __xor__
    """,
    "reductions and order": """
        all amax amin any argmax argmin argsort linalg_vector_norm logsumexp max mean median min norm prod sort std
        std_mean sum topk var var_mean
    """,
    "activations": """
        celu elu elu_ gelu glu hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu
        leaky_relu_ log_sigmoid log_softmax mish mish_ prelu relu relu6 relu6_ relu_ selu sigmoid sigmoid_ silu
        silu_ softmax softplus
    """,
    "layers": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d addmm avg_pool1d avg_pool2d baddbmm batch_norm
        bmm conv1d conv2d conv3d conv_transpose2d dropout dropout_ einsum feature_dropout group_norm im2col
        instance_norm layer_norm linear matmul max_pool2d max_pool2d_with_indices mm rms_norm
        scaled_dot_product_attention
    """,
    "sizes and padding": """
        channel_shuffle constant_pad_nd pad pixel_shuffle pixel_unshuffle reflection_pad2d replication_pad2d
        upsample_bicubic2d upsample_bilinear2d upsample_nearest2d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    """,
    "places": """
        gather index index_select masked_fill nonzero scatter scatter_add scatter_reduce take_along_dim
    """,
    "forms": """
        alias broadcast_to cat chunk clone concat contiguous detach detach_ expand expand_as flatten flip lift_fresh
        lift_fresh_copy movedim narrow permute repeat repeat_interleave reshape reshape_as roll select slice split
        split_with_sizes squeeze stack sym_numel sym_size t tile to transpose tril triu type_as unbind unflatten
        unfold unsqueeze view view_as _to_copy
    """,
    "new tensors": """
        arange empty empty_like full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor
        zeros zeros_like
    """,
}

OPERATORS = frozenset(name for names in _NAMES.values() for name in names.split())
"""Operators of aten, with all of their overloads but those that are given a tensor to write into."""

ASSERTIONS = frozenset(
    f"{NAMESPACE}{name}.default"
    for name in "_assert_scalar _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size".split()  # noqa: SIM905
)
"""What tracing assumed of sizes and strides. They give nothing, and are left out: every size is computed alike."""
