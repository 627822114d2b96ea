--- Data: datasets, samplers, transforms, loaders, and the sets that come with aijit or are fetched.

local dataset = require "aijit.data.dataset"

local data = {
  Dataset = dataset.Dataset,
  IterableDataset = dataset.IterableDataset,
  Transformed = dataset.Transformed,
  compose = dataset.compose,
  get_data_dir = require "aijit.data.directory",
}

-- These need tensors; they are loaded when they are first asked for. name = module, or {module, field}.
local later = {
  Loader = "loader", collate = {"collate", "batch"}, pad_collate = {"collate", "pad"}, transforms = "transforms",
  ImageFolder = "folder", CsvDataset = "table", TokenDataset = "tokens", unpack = {"archive", "unpack"},
}
for module, names in pairs {
  combine = "TensorDataset ConcatDataset ChainDataset Shuffled Subset split random_split",
  mnist = "Mnist FashionMnist",
  cifar = "Cifar10 Cifar100",
  shards = "TarShards WebDataset",
  synthetic = "moons circles spirals FakeData",
  sampler = "Sampler SequentialSampler RandomSampler SubsetRandomSampler WeightedRandomSampler DistributedSampler",
} do
  for name in names:gmatch "%S+" do later[name] = {module, name} end
end

return setmetatable(data, {
  __name = "aijit.data",
  __index = function(self, name)
    local from = later[name]
    if not from then return nil end
    local value
    if type(from) == "string" then value = require("aijit.data." .. from) else value = require("aijit.data." .. from[1])[from[2]] end
    self[name] = value
    return value
  end,
})
