--- Data: datasets, loaders and the sets that come with aijit or are fetched.

local dataset = require "aijit.data.dataset"

local data = {
  Dataset = dataset.Dataset,
  Transformed = dataset.Transformed,
  compose = dataset.compose,
  get_data_dir = require "aijit.data.directory",
}

-- These need tensors; they are loaded when they are first asked for.
local later = {
  Loader = function() return require "aijit.data.loader" end,
  collate = function() return require("aijit.data.collate").batch end,
  Mnist = function() return require("aijit.data.mnist").Mnist end,
  FashionMnist = function() return require("aijit.data.mnist").FashionMnist end,
}

return setmetatable(data, {
  __name = "aijit.data",
  __index = function(self, name)
    local load = later[name]
    if not load then return nil end
    self[name] = load()
    return self[name]
  end,
})
