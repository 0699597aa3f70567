"""The operations that autograd records, by class."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "linear", "product", "attention", "norm", "statistic", "gate", "activation", "softmax", "quotient", "leaf"
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Linear or positively homogeneous of degree 1 in all that carries relevance: the derivative is the rule.
LINEAR = _names("""
    Add Sub Rsub Neg Sum Mean Nansum Cumsum Trace Detach Alias Clone ToCopy Copy CopySlices Cast Fill Zero Zeros Swap
    View UnsafeView ReshapeAlias Reshape Transpose T Permute Movedim Expand ExpandAs Squeeze Unsqueeze Flatten Unflatten
    AsStrided AsStridedBackward Select Slice Narrow NarrowCopy Split SplitWithSizes UnsafeSplit Unbind Chunk Cat Stack
    Repeat RepeatInterleave Tile Roll Flip Rot90 Diagonal DiagonalScatter DiagEmbed Diag Tril Triu Unfold UnfoldBackward
    Index IndexSelect IndexAdd IndexPut IndexPutImpl IndexCopy IndexFill Gather Scatter ScatterAdd ScatterReduce
    SelectScatter SliceScatter MaskedFill MaskedScatter MaskedSelect Where SWhere
    Take TakeAlongDim Embedding EmbeddingBag
    ConstantPadNd ReflectionPad1D ReflectionPad2D ReplicationPad1D ReplicationPad2D ReplicationPad3D
    Im2Col Col2Im Fold Convolution MkldnnConvolution CudnnConvolution SlowConv2D ThnnConv2D ConvDepthwise2D
    Addmm NativeBatchNorm CudnnBatchNorm NativeDropout Dropout Lerp
    Relu LeakyRelu PreluKernel Prelu Threshold Abs Max Min Amax Amin Maximum Minimum Fmax Fmin Topk Sort Kthvalue Median
    AvgPool1D AvgPool2D AvgPool3D MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D AdaptiveAvgPool1D
    AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D MaxPool1D MkldnnAdaptiveAvgPool2D
    UpsampleBilinear2D UpsampleNearest1D UpsampleNearest2D UpsampleNearestExact2D UpsampleBicubic2D UpsampleLinear1D
    UpsampleBicubic2DAa UpsampleBilinear2DAa PixelShuffle PixelUnshuffle GridSampler2D
    GroupedMm SegmentReduce Complex Conj ConjPhysical Real Imag RealView ViewAsReal ViewAsComplex FftR2C FftC2C FftC2R
    ToMkldnn MkldnnLinear ToDense
    """)

#: Operations that keep a tensor's values, apart from a scale.
COPIES = _names("""
    Alias Clone ToCopy Copy Cast View UnsafeView ReshapeAlias Reshape Transpose T Permute Expand Squeeze Unsqueeze
    Flatten Unflatten NativeDropout Dropout
    """)

#: Maps with learned or data-dependent weights: they end the reach of an activation, a softmax or a chain of products.
MATRIX = _names("Addmm Mm Bmm Baddbmm Addbmm Mv Addmv Dot Convolution MkldnnConvolution GroupedMm MkldnnLinear")

#: Products, with the arguments that are multiplied with each other; the others are added.
PRODUCTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_names("Mul Mm Bmm Mv Dot Vdot Outer Convolution MkldnnConvolution GroupedMm"), (0, 1)),
    **dict.fromkeys(_names("Addmm Addmv Baddbmm Addbmm Addcmul"), (1, 2)),
}

#: Divisors: standard deviations, norms and their parts.
DIVISORS = _names("Rsqrt Sqrt Reciprocal LinalgVectorNorm Norm Var Std VarMean StdMean")

#: Functions that only scale or steer other values: decays, angles.
MODULATORS = _names("Exp Exp2 Log Log2 Log1P Sin Cos Logsumexp")

#: Batch norms, which are affine in evaluation mode.
BATCH_NORMS = _names("NativeBatchNorm CudnnBatchNorm")

#: Arguments of linear operations that only weigh the others, by operation.
COEFFICIENTS = {"Lerp": (2,), "PreluKernel": (1,)}

#: Piecewise linear activations: linear for relevance, but a factor that passed one is a gate.
RECTIFIERS = _names("Relu LeakyRelu Threshold PreluKernel Prelu")

#: Squashing functions: a gate where they reach a product with another live factor, else an activation.
GATES = _names("Sigmoid Tanh Erf Erfc Softplus LogSigmoid Hardsigmoid Expm1")

CLAMPS = _names("Hardtanh Clamp ClampMin ClampMax")

ACTIVATIONS = CLAMPS | _names("Silu Gelu Mish Elu Selu Celu Hardswish Pow Glu GeLUFunction")

SOFTMAXES = _names("Softmax SafeSoftmax LogSoftmax XSoftmax")

NORMS = _names("NativeLayerNorm NativeGroupNorm FusedRmsNorm NativeRmsNorm")

QUOTIENTS = _names("Div Addcdiv LinalgSolveTriangular")

ATTENTIONS = _names("""
    ScaledDotProductFlashAttentionForCpu ScaledDotProductFlashAttention ScaledDotProductEfficientAttention
    ScaledDotProductCudnnAttention ScaledDotProductFusedAttentionOverrideable
    """)

#: Affine operations whose result may contain a constant: a bias, a mask, a pad.
AFFINE = _names("""
    Add Sub Rsub Addmm Addmv Baddbmm Addbmm Addcmul Convolution MkldnnConvolution NativeLayerNorm NativeGroupNorm
    NativeBatchNorm CudnnBatchNorm Cat Stack Where SWhere MaskedFill MaskedScatter IndexPut IndexPutImpl IndexAdd
    IndexCopy IndexFill Scatter ScatterAdd SelectScatter SliceScatter DiagonalScatter ConstantPadNd Lerp Copy Maximum
    Minimum Fmax Fmin
    """)

#: Prefixes of nodes that transformers and torch make for operations registered at run time.
LINEAR_PREFIXES = ("GeneratedBackwardFor_transformers_grouped_mm", "GeneratedBackwardFor_aten_detach")


def kind_of(name: str) -> Kind | None:
    """The class of an operation, or None if it is unknown."""
    return _KINDS.get(name) or ("linear" if name.startswith(LINEAR_PREFIXES) else None)


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(LINEAR, "linear"),
    **dict.fromkeys(PRODUCTS, "product"),
    **dict.fromkeys(DIVISORS | MODULATORS, "statistic"),
    **dict.fromkeys(GATES, "gate"),
    **dict.fromkeys(ACTIVATIONS, "activation"),
    **dict.fromkeys(SOFTMAXES, "softmax"),
    **dict.fromkeys(NORMS, "norm"),
    **dict.fromkeys(QUOTIENTS, "quotient"),
    **dict.fromkeys(ATTENTIONS, "attention"),
    "AccumulateGrad": "leaf",
}
