--- Optimizers and schedules by name: from a config, or as papers have them.

local class = require "aijit.class"
local group = require "aijit.optim.group"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

local preset = {}

local other_names = {schedulefree = "ScheduleFreeAdamW", cosineannealinglr = "CosineLR", reducelronplateau = "PlateauLR"}

--- The class of a name, in any case, with underscores or without; "cosine" is "CosineLR".
local function find(name)
  local optim = require "aijit.optim"
  local bare = type(name) == "string" and name:lower():gsub("_", "") or ""
  local names = {}
  for known, value in pairs(optim) do
    if class.is_class(value) and known ~= "Optimizer" and known ~= "Schedule" then
      local lower = known:lower()
      if lower == bare or lower == bare .. "lr" or known == other_names[bare] then return value end
      names[#names + 1] = known
    end
  end
  raise(("optim.from_spec: there is no class '%s': %s"):format(tostring(name), nearest.hint(tostring(name), names)))
end

--- An optimizer, or a schedule, that a plain table describes: {type = "adamw", lr = 3e-4, betas = {0.9, 0.95}}, of a model or its
--- parameters; {type = "cosine", total = 10000, warmup = 500}, of an optimizer.
---@param spec table `type`, the name of a class in any case, and its options
---@param of any a model, parameters or groups, as for the optimizer; or an optimizer, for a schedule
---@return aijit.optim.Optimizer|aijit.optim.Schedule
function preset.from_spec(spec, of)
  if type(spec) ~= "table" or type(spec.type) ~= "string" then
    raise 'optim.from_spec: a spec is a table with a string `type`, such as {type = "adamw", lr = 3e-4}'
  end
  local cls, options = find(spec.type), {}
  for key, value in pairs(spec) do if key ~= "type" then options[key] = value end end
  if class.is_subclass(cls, require("aijit.optim").Schedule) and not class.is(of, require("aijit.optim").Optimizer) then
    raise(("optim.from_spec: %s is a schedule, of an optimizer, not of a %s"):format(cls.__name, type(of)))
  end
  return cls(of, options)
end

--- name -> class, options. GPT-3: Brown and others (2020), table 2.1 and appendix B; RoBERTa: Liu and others (2019), table 9; Lion: Chen
--- and others (2023), section 5.
local recipes = {
  adam = {"AdamW", {lr = 3e-4, betas = {0.9, 0.95}, weight_decay = 0.01}},
  adan = {"Adan", {lr = 1e-3, betas = {0.98, 0.92, 0.99}, weight_decay = 0}},
  ["gpt3-small"] = {"AdamW", {lr = 6e-4, betas = {0.9, 0.95}, weight_decay = 0.1}},
  ["gpt3-medium"] = {"AdamW", {lr = 3e-4, betas = {0.9, 0.95}, weight_decay = 0.1}},
  ["gpt3-large"] = {"AdamW", {lr = 2.5e-4, betas = {0.9, 0.95}, weight_decay = 0.1}},
  ["roberta-base"] = {"AdamW", {lr = 6e-4, betas = {0.9, 0.98}, eps = 1e-6, weight_decay = 0.01}},
  ["roberta-large"] = {"AdamW", {lr = 4e-4, betas = {0.9, 0.98}, eps = 1e-6, weight_decay = 0.01}},
  ["lion-stable"] = {"Lion", {lr = 1e-4, betas = {0.95, 0.98}, weight_decay = 0}},
}

--- An optimizer with the options of a published recipe: "gpt3-small", "gpt3-medium", "gpt3-large", "roberta-base", "roberta-large",
--- "lion-stable", "adan", and "adam" (lr 3e-4, betas 0.9 and 0.95, decay 0.01). Norms, embeddings and all of fewer than two dimensions
--- do not decay (optim.separate_decay).
---@param name string
---@param params aijit.nn.Module|aijit.Tensor[]|table
---@param options? table the optimizer's, over the recipe's
---@return aijit.optim.Optimizer
function preset.preset(name, params, options)
  local recipe = recipes[name]
  if not recipe then
    local names = {}
    for known in pairs(recipes) do names[#names + 1] = known end
    raise(("optim.preset: there is no recipe '%s': %s"):format(tostring(name), nearest.hint(tostring(name), names)))
  end
  local all = {}
  for _, o in ipairs{recipe[2], options or {}} do
    for key, value in pairs(o) do all[key] = value end
  end
  if type(all.weight_decay) == "number" and all.weight_decay > 0 then params = group.separate_decay(params, {weight_decay = all.weight_decay}) end
  return require("aijit.optim")[recipe[1]](params, all)
end

return preset
