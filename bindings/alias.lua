--- Other names of ops, which users of PyTorch and NumPy know: name = the op. They hold for `ai.f`, for methods, and, with a
-- `_` behind both, for what works in place.

---@type table<string, string>
return {
  absolute = "abs", negative = "neg", sgn = "sign", fix = "trunc", expit = "sigmoid", psi = "digamma", gammaln = "lgamma",
  arccos = "acos", arccosh = "acosh", arcsin = "asin", arcsinh = "asinh", arctan = "atan", arctanh = "atanh", arctan2 = "atan2",
  multiply = "mul", divide = "div", true_divide = "div", subtract = "sub", clip = "clamp",
  greater = "gt", greater_equal = "ge", less = "lt", less_equal = "le", not_equal = "ne",
  ger = "outer", vdot = "dot", trapz = "trapezoid",
  swapaxes = "transpose", swapdims = "transpose", broadcast_to = "expand", moveaxis = "movedim", ravel = "flatten",
  concat = "cat", concatenate = "cat", row_stack = "vstack", argwhere = "nonzero",
  fold = "col2im", pinverse = "pinv", ndimension = "dim", gammainc = "igamma", gammaincc = "igammac", multigammaln = "mvlgamma",
  logsigmoid = "log_sigmoid", split_with_sizes = "split", native_channel_shuffle = "channel_shuffle", upsample = "interpolate",
  constant_pad_nd = "pad",
  binary_cross_entropy = "bce_loss", binary_cross_entropy_with_logits = "bce_with_logits",
}
