--- The ops that vmap has no rule for, and why: name -> reason. spec/fn_rule_spec.lua holds every other op to its rule.

local none = {}

local function list(reason, names) for name in names:gmatch "%S+" do none[name] = reason end end

list("how large the result is depends on the values, and differs from example to example; a mask with :where, or scatter_add, keeps the size",
  "masked_select nonzero unique unique_consecutive bincount repeat_positions")

list("it is the gradient of another op: gradients are taken of the function that vmap makes, or within it by fn.grad", [[
  logcumsumexp_grad softmax_grad log_softmax_grad cross_entropy_grad nll_loss_grad group_norm_grad batch_norm_grad conv_grad_input
  conv_grad_weight max_pool_grad avg_pool_grad adaptive_avg_pool_grad upsample_nearest_grad upsample_linear_grad attention_grad
  rnn_layer_grad grid_sample_grad as_strided_grad]])

list("it is a step of scaled_dot_product_attention, which has one", "attention")
list("it is a step of index_by, which has one", "ravel_index")
list("it is a step of lstsq, which has one", "lstsq_solve")

--- Arguments that must be the same for all examples, though their op has a rule: "op argument" -> reason.
none.arguments = {
  ["repeat_each repeats"] = "how large the result is depends on the values",
}

for _, name in ipairs {"quantized_linear", "quantized_conv2d"} do
  for _, argument in ipairs {"weight", "scale", "bias"} do
    none.arguments[name .. " " .. argument] = "a weight is laid out for the kernel once, for all inputs"
  end
end

return none
