--- Optimizers and schedules by name: from plain tables, and as papers have them.

local ai = require "aijit"
local nn, optim = ai.nn, ai.optim

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

it("every optimizer and every schedule is made from a table that names it in any case", function()
  local model, class = nn.Linear(3, 2), require "aijit.class"
  local options = {                                              -- false: of functions, or of other schedules
    LambdaLR = false, ChainedLR = false, SequentialLR = false, WarmupLR = {warmup = 3}, LinearLR = {total = 10}, CosineLR = {total = 10},
    PolynomialLR = {total = 10}, ExponentialLR = {gamma = 0.9}, CosineRestartsLR = {period = 3}, NoamLR = {dim = 8, warmup = 3}, StepLR = {step_size = 3},
    MultiStepLR = {milestones = {2}}, OneCycleLR = {total = 10},
  }
  local made = 0
  for name, cls in pairs(optim) do
    if class.is_subclass(cls, optim.Optimizer) and name ~= "Optimizer" then
      for _, written in ipairs{name, name:lower()} do
        local one = optim.from_spec({type = written, lr = 0.25}, model)
        assert.are.equal(cls, getmetatable(one), written)
        assert.are.equal(0.25, one.param_groups[1].lr)
        made = made + 1
      end
    elseif class.is_subclass(cls, optim.Schedule) and name ~= "Schedule" and options[name] ~= false then
      local spec = {type = name:lower():gsub("lr$", "")}
      for key, value in pairs(options[name] or {}) do spec[key] = value end
      local ok, one = pcall(optim.from_spec, spec, optim.SGD(model))
      assert(ok, name .. ": " .. tostring(one))
      assert.are.equal(cls, getmetatable(one), name)
      made = made + 1
    end
  end
  assert.is_true(made > 30)
  assert.are.equal(optim.ScheduleFreeAdamW, getmetatable(optim.from_spec({type = "schedule_free"}, model)))
end)

it("a wrong table is an error with the nearest name", function()
  local model = nn.Linear(3, 2)
  assert.matches("no class 'adamm': did you mean 'Adam'", message_of(optim.from_spec, {type = "adamm"}, model))
  assert.matches("AdamW: it has no argument 'bets': did you mean 'betas'", message_of(optim.from_spec, {type = "adamw", bets = {0.9, 0.9}}, model))
  assert.matches("a spec is a table with a string `type`", message_of(optim.from_spec, "adamw", model))
  assert.matches("a spec is a table with a string `type`", message_of(optim.from_spec, {lr = 1}, model))
  assert.matches("CosineLR is a schedule, of an optimizer, not of a table", message_of(optim.from_spec, {type = "cosine", total = 3}, model))
end)

describe("preset", function()
  it("has the published numbers, and decays matrices alone", function()
    local model = nn.Sequential{nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3)}
    for name, wanted in pairs{
      adam = {optim.AdamW, 3e-4, {0.9, 0.95}, 0.01}, ["gpt3-small"] = {optim.AdamW, 6e-4, {0.9, 0.95}, 0.1},
      ["gpt3-medium"] = {optim.AdamW, 3e-4, {0.9, 0.95}, 0.1}, ["gpt3-large"] = {optim.AdamW, 2.5e-4, {0.9, 0.95}, 0.1},
      ["roberta-base"] = {optim.AdamW, 6e-4, {0.9, 0.98}, 0.01}, ["roberta-large"] = {optim.AdamW, 4e-4, {0.9, 0.98}, 0.01},
    } do
      local one = optim.preset(name, model)
      local groups = one.param_groups
      assert.are.equal(wanted[1], getmetatable(one))
      assert.are.same({wanted[2], wanted[3], wanted[4]}, {groups[1].lr, groups[1].betas, groups[1].weight_decay}, name)
      assert.are.equal(1, #groups[1].params)
      assert.are.equal(0, groups[2].weight_decay)
      assert.are.equal(4, #groups[2].params)
    end
    assert.are.same({0.95, 0.98}, optim.preset("lion-stable", model).param_groups[1].betas)
    assert.are.equal(5, #optim.preset("adan", model).param_groups[1].params)
  end)

  it("takes options over the recipe's, and parameters of any kind", function()
    local model = nn.Linear(3, 2)
    local one = optim.preset("gpt3-small", model:parameters(), {lr = 0.5, weight_decay = 0.2})
    assert.are.same({0.5, 0.2}, {one.param_groups[1].lr, one.param_groups[1].weight_decay})
    assert.are.equal(1, #optim.preset("gpt3-small", model, {weight_decay = 0}).param_groups)
    assert.matches("no recipe 'gpt3%-smal': did you mean 'gpt3%-small'", message_of(optim.preset, "gpt3-smal", model))
    assert.matches("it has no argument 'lrr': did you mean 'lr'", message_of(optim.preset, "adam", model, {lrr = 1}))
  end)
end)
