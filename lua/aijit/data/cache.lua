--- A dataset whose samples are kept in files: `dataset:cache(dir)`.
--
-- DIR/version.json names the version that the samples were made by; another version of the dataset makes them anew. Each
-- sample is one file, DIR/sample-7.safetensors, written whole or not at all: its tensors, and the rest as JSON in the header.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local file = require "aijit.io.file"
local pack = require "aijit.data.pack"
local system = require "aijit.bindings.system"

---@class aijit.Cached: aijit.Dataset
---@field dataset aijit.Dataset
---@field dir string
local Cached = class("Cached", Dataset)

-- Bookkeeping of the layout itself, so that a later aijit with another one begins anew too.
local layout = 1

local function path_of(self, index) return ("%s/sample-%d.safetensors"):format(self.dir, index) end

---@param dataset aijit.Dataset
---@param dir string a folder for this dataset alone
function Cached:__init(dataset, dir)
  if type(dir) ~= "string" then error(("cache: the folder is a %s, not a string"):format(type(dir)), 3) end
  self.dataset, self.dir = dataset, system.make_directories(dir)
  local mark = ai.json.encode {dataset = dataset.__name, version = dataset:version(), size = dataset:size(), layout = layout}
  local marked = dir .. "/version.json"
  if file.exists(marked) then
    local old = file.read(marked)
    if old == mark then return end
    local count = ai.json.decode(old).size
    for index = 1, type(count) == "number" and count or 0 do os.remove(path_of(self, index)) end
  end
  file.write(marked, mark)
end

function Cached:size() return self.dataset:size() end

function Cached:version() return self.dataset:version() end

function Cached:describe(index) return self.dataset:describe(index) end

function Cached:get(index)
  local path = path_of(self, index)
  if file.exists(path) then
    local tensors, about = ai.load(path)
    local sample = ai.json.decode(about.sample, {special = "string"})
    tensors.nothing = nil
    local fields = pack.join(sample.fields, tensors)
    return unpack(fields, 1, sample.count)
  end
  local fields = {self.dataset:get(index)}
  local tensors, count = {}, #fields
  local rest = pack.split(fields, "", tensors)
  if next(tensors) == nil then tensors.nothing = ai.zeros(1, {dtype = "u8"}) end
  ai.save(tensors, path, {metadata = {sample = ai.json.encode({count = count, fields = rest}, {special = "string"})}})
  return unpack(fields, 1, count)
end

return Cached
