--- CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from the files of their binary version: pictures of 32 x 32 points.
--
-- A sample is a u8 picture (3, 32, 32), 0 to 255, and a label, i64 (), from 1 to 10 or 100, as classes count from 1.

local ai = require "aijit"
local class = require "aijit.class"
local Labelled = require "aijit.data.labelled"
local archive = require "aijit.data.archive"
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"
local get_data_dir = require "aijit.data.directory"
local option = require "aijit.data.option"

local PLANE, SIDE = 1024, 32

---@class aijit.Cifar10: aijit.Dataset
---@field images any u8 (N, 3, 32, 32)
---@field labels any i64 (N), from 1
---@field classes string[]? names of the classes, where the file of them is there
local Cifar10 = class("Cifar10", Labelled)

Cifar10.folder, Cifar10.inner, Cifar10.label_bytes, Cifar10.label_at = "cifar10", "cifar-10-batches-bin", 1, 1
Cifar10.train_files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"}
Cifar10.test_files, Cifar10.names_file, Cifar10.class_count = {"test_batch.bin"}, "batches.meta.txt", 10
Cifar10.url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
Cifar10.sha256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

local function there(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

local function find(self, root, name)
  for _, path in ipairs {root .. "/" .. name, root .. "/" .. self.inner .. "/" .. name} do
    if there(path) then return path end
  end
end

local function read(self, path, images, labels)
  local blob = file.open(path)
  local bytes = format.raw_read(blob, "u8")
  file.close(blob)
  local record = self.label_bytes + 3 * PLANE
  if #bytes == 0 or #bytes % record ~= 0 then
    error(("data.%s: %s: %d bytes are no whole number of samples of %d"):format(self.__name, path, #bytes, record), 0)
  end
  local rows = bytes:reshape(-1, record)
  local own = rows:narrow(2, self.label_at, 1):reshape(-1):to("i64") + 1
  if own:amax():item() > self.class_count then
    error(("data.%s: %s: a label of %d, where there are %d classes: is this a file of this set?"):format(self.__name, path,
      own:amax():item() - 1, self.class_count), 0)
  end
  images[#images + 1] = rows:narrow(2, self.label_bytes + 1, 3 * PLANE):reshape(-1, 3, SIDE, SIDE)
  labels[#labels + 1] = own
end

---@param o? {root: string, train: boolean, download: boolean}
---  root: folder of the .bin files, or of the folder that holds them (`ai.get_data_dir() .. "/cifar10"`); train: the training
---  part (true); download: fetch them there if they are missing
function Cifar10:__init(o)
  local who = "data." .. self.__name
  o = option.read(who, o, {root = "", train = true, download = true})
  local root = o.root or get_data_dir() .. "/" .. self.folder
  local names = o.train == false and self.test_files or self.train_files
  if o.download and not find(self, root, names[1]) then archive.fetch(self.url, root, self.sha256) end
  local images, labels = {}, {}
  for _, name in ipairs(names) do
    local path = find(self, root, name)
    if not path then
      error(("%s: no %s in %s, nor in its %s: download = true fetches them (160 MB), or unpack %s there"):format(who, name, root, self.inner,
        self.url:match "[^/]+$"), 3)
    end
    local ok, problem = pcall(read, self, path, images, labels)
    if not ok then error(problem, 3) end
  end
  self.images, self.labels = ai.keep(ai.cat(images, 1)), ai.keep(ai.cat(labels, 1))
  local meta = find(self, root, self.names_file)
  if meta then
    self.classes = {}
    for line in io.lines(meta) do
      if line:match "%S" then self.classes[#self.classes + 1] = line:match "^%s*(.-)%s*$" end
    end
  end
end

--- The hundred fine classes, or with `coarse = true` the twenty that they fall into.
---@class aijit.Cifar100: aijit.Cifar10
local Cifar100 = class("Cifar100", Cifar10)

Cifar100.folder, Cifar100.inner, Cifar100.label_bytes = "cifar100", "cifar-100-binary", 2
Cifar100.train_files, Cifar100.test_files = {"train.bin"}, {"test.bin"}
Cifar100.url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
Cifar100.sha256 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"

---@param o? {root: string, train: boolean, download: boolean, coarse: boolean}
function Cifar100:__init(o)
  local rest = {}
  for key, value in pairs(type(o) == "table" and o or {}) do
    if key ~= "coarse" then rest[key] = value end
  end
  local coarse = type(o) == "table" and o.coarse
  self.label_at, self.class_count = coarse and 1 or 2, coarse and 20 or 100
  self.names_file = coarse and "coarse_label_names.txt" or "fine_label_names.txt"
  Cifar10.__init(self, rest)
end

return {Cifar10 = Cifar10, Cifar100 = Cifar100}
