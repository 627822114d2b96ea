--- ai.help of classes: how they are called, what they are, what their arguments may be.

local ai = require "aijit"
local help = require "aijit.help"
local registry = require "aijit.nn.registry"
local nn = ai.nn

local function has(text, ...)
  for _, words in ipairs{...} do assert(text:find(words, 1, true), ("%q in\n%s"):format(words, text)) end
end

it("every class of layers tells how it is made and what each argument may be", function()
  local n = 0
  for _, name in ipairs(registry.names()) do
    local class = registry.find(name)
    if rawget(nn, name) == class and class.declaration then
      local text = help.text("nn." .. name)
      has(text, ("nn.%s("):format(name:gsub("StreamableCBR", "streamable_cbr")))
      assert.is_nil(text:find("Layer:__init", 1, true), name)
      for _, one in ipairs(class.declaration.list) do has(text, "\n    " .. one.name) end
      assert.are.equal(text, help.text(class))
      n = n + 1
    end
  end
  assert.is_true(n > 150)
end)

it("a class comes with its comment, its defaults, and what its objects are called with", function()
  has(help.text "nn.Linear", "nn.Linear([in_features], out_features, {bias})", "y = x W^T + b over the last dimension", "field weight",
    "out_features: a whole number from 0", "bias: true or false = true", "in_features: a whole number from 0, inferred when left out", "nn/linear.lua:")
  has(help.text "nn.Conv2d", "Cross-correlation: (N, in, *size)", 'padding_mode: "zeros", "reflect", "replicate" or "circular" = "zeros"')
  has(help.text "nn.LSTM", "Hochreiter", "param state? aijit.Tensor|aijit.Tensor[]")
  has(help.text "nn.Residual", "nn.Residual(main, {shortcut})", "main(x) + shortcut(x)")
  has(help.text "optim.AdamW", "optim.AdamW(params, {lr, betas", "Loshchilov", "betas: two numbers from 0 to below 1 = {0.9, 0.999}")
  has(help.text(nn.ReLU()), "nn.ReLU({inplace})")
  has(help.text "m.resblk", "squeeze and excite")
end)

it("a wrong name is told the nearest one", function()
  has(help.text "nn.MSELos", "no help on \"nn.MSELos\"; did you mean", "MSELoss")
  has(help.text "softmx", "softmax")
end)
