--- MNIST and sets of its format: images of 28 x 28 bytes in four idx files.
--
-- A sample is a u8 image (28, 28), 0 to 255, and a label, i64 (), from 1 to 10: the digit plus one, as classes count from 1.

local ai = require "aijit"
local class = require "aijit.class"
local get_data_dir = require "aijit.data.directory"
local Labelled = require "aijit.data.labelled"
local option = require "aijit.data.option"

local files = {
  train = {images = "train-images-idx3-ubyte", labels = "train-labels-idx1-ubyte"},
  test = {images = "t10k-images-idx3-ubyte", labels = "t10k-labels-idx1-ubyte"},
}

---@class aijit.Mnist: aijit.Labelled
---@field images any u8 (N, 28, 28)
---@field labels any i64 (N), 1 to 10
---@field origin string the folder they were read from
local Mnist = class("Mnist", Labelled)

local mirror = "https://storage.googleapis.com/cvdf-datasets/mnist/"
local sha256 = {
  ["train-images-idx3-ubyte"] = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
  ["train-labels-idx1-ubyte"] = "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
  ["t10k-images-idx3-ubyte"] = "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
  ["t10k-labels-idx1-ubyte"] = "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

local function there(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- The file of a name in a folder, packed or not.
local function find(folder, name)
  for _, ending in ipairs {".gz", ""} do
    local path = folder .. "/" .. name .. ending
    if there(path) then return path end
  end
end

local function has(folder, names) return find(folder, names.images) and find(folder, names.labels) end

local function download(folder)
  local fetch = require("aijit.io").download
  require("aijit.bindings.system").make_directories(folder)
  for _, names in pairs(files) do
    for _, name in pairs(names) do
      local path = folder .. "/" .. name .. ".gz"
      if not there(path) then fetch(mirror .. name .. ".gz", path, {sha256 = sha256[name]}) end
    end
  end
end

--- The digits that come with aijit.
local function shipped()
  local examples = require("aijit.tree").examples
  return examples and examples .. "/data/mnist10k"
end

--- The folders that are looked through after `root`.
---@param root string
---@param o table
---@return string[]
function Mnist:places(root, o)
  if o.download then
    if not (has(root, files.train) and has(root, files.test)) then download(root) end
    return {root}
  end
  return {root, shipped()}
end

Mnist.folder = "mnist"

---@param o? {root?: string, train?: boolean, download?: boolean}
---  root: folder of the four idx files, packed or not (`ai.get_data_dir() .. "/mnist"`); where it holds none, the 10,000 digits
---  that come with aijit are used; download = true fetches all 70,000 into root instead. train: the training part (true)
function Mnist:__init(o)
  local name = self.__name
  o = option.read("data." .. name, o, {root = "", train = true, download = true})
  local part = o.train == false and files.test or files.train
  local root = o.root or get_data_dir() .. "/" .. self.folder
  local places = self:places(root, o)
  for _, folder in ipairs(places) do
    if has(folder, part) then
      self.origin = folder
      break
    end
  end
  if not self.origin then
    error(("data.%s: no %s.gz in %s%s"):format(name, part.images, table.concat(places, ", nor in "), self.advice or ""), 3)
  end
  local images = ai.load(find(self.origin, part.images))
  local labels = ai.load(find(self.origin, part.labels))
  if images:dim() ~= 3 or labels:dim() ~= 1 or images:size(1) ~= labels:size(1) then
    error(("data.%s: the images and labels in %s do not belong together"):format(name, self.origin), 3)
  end
  -- Made outside any step, and kept by this object.
  self.images, self.labels = ai.keep(images), ai.keep(labels:to("i64") + 1)
end

--- Zalando's pictures of clothes, as Debian packages them.
---@class aijit.FashionMnist: aijit.Mnist
local FashionMnist = class("FashionMnist", Mnist)

FashionMnist.folder = "fashion-mnist"
FashionMnist.advice = ": apt install dataset-fashion-mnist"

--- What the labels 1 to 10 mean.
FashionMnist.names = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"}

function FashionMnist:places(root, o)
  if o.download then error("data.FashionMnist: download is not there for it; apt install dataset-fashion-mnist", 4) end
  return {root, "/usr/share/datasets/fashion-mnist"}
end

return {Mnist = Mnist, FashionMnist = FashionMnist}
