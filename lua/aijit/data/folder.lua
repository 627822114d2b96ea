--- Pictures in folders: ROOT/cats/1.png, ROOT/dogs/sub/7.jpg. The folders right under ROOT are the classes, in the order of their
-- names; without any, a sample is a picture alone.
--
-- A sample is a u8 picture (C, H, W), 0 to 255, and a label, i64 (), from 1 on.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local file = require "aijit.bindings.file"
local image = require "aijit.image"
local option = require "aijit.data.option"
local system = require "aijit.bindings.system"

---@class aijit.ImageFolder: aijit.Dataset
---@field classes string[] names of the folders
---@field paths string[] relative to root
---@field labels integer[]
local ImageFolder = class("ImageFolder", Dataset)

local endings = {png = true, jpg = true, jpeg = true}

local function find(root, below, label, self)
  local folder = below == "" and root or root .. "/" .. below
  for _, name in ipairs(system.list(folder) or {}) do
    local path = below == "" and name or below .. "/" .. name
    local ending = name:match "%.(%w+)$"
    local hidden = name:sub(1, 1) == "."
    if not hidden and ending and endings[ending:lower()] then
      self.paths[#self.paths + 1], self.labels[#self.labels + 1] = path, label
    elseif not hidden and system.is_directory(root .. "/" .. path) then
      find(root, path, label, self)
    end
  end
end

---@param root string
---@param o? {size: integer|integer[], channels: integer, filter: string, transform: fun(...): ...}
---  size: {height, width}, or one number for both, to which each picture is brought (as it is); channels 3: what it is converted
---  to, 1, 3 or 4; filter "bilinear"; transform(picture, label): gives the sample's fields
function ImageFolder:__init(root, o)
  local who = "data." .. self.__name
  if type(root) ~= "string" then error(("%s: the folder is a %s, not a string"):format(who, type(root)), 3) end
  o = option.read(who, o, {size = "[any]", channels = 3, filter = "", transform = print})
  self.channels = o.channels or 3
  if self.channels ~= 1 and self.channels ~= 3 and self.channels ~= 4 then
    error(("%s: channels is 1, 3 or 4, not %s"):format(who, tostring(self.channels)), 3)
  end
  if o.size then self.image_size = require("aijit.data.transforms.base").pair(o.size, who) end
  self.filter = o.filter or "bilinear"
  option.choice(who, "filter", self.filter, {"nearest", "bilinear", "bicubic"})
  self.root, self.transform = root:gsub("(.)/+$", "%1"), o.transform
  self.classes, self.paths, self.labels = {}, {}, {}
  local names = system.list(root)
  if not names then error(("%s: there is no folder '%s'"):format(who, root), 3) end
  for _, name in ipairs(names) do
    if name:sub(1, 1) ~= "." and system.is_directory(self.root .. "/" .. name) then self.classes[#self.classes + 1] = name end
  end
  if #self.classes > 0 then
    for label, name in ipairs(self.classes) do
      local before = #self.paths
      find(self.root, name, label, self)
      if #self.paths == before then
        error(("%s: there is no picture (.png, .jpg, .jpeg) in '%s/%s'"):format(who, self.root, name), 3)
      end
    end
  else
    find(self.root, "", 0, self)
    if #self.paths == 0 then error(("%s: there is no picture (.png, .jpg, .jpeg) in '%s'"):format(who, root), 3) end
  end
end

function ImageFolder:size() return #self.paths end

function ImageFolder:get(index)
  option.index("data." .. self.__name, index, #self.paths)
  local picture = image.read(self.root .. "/" .. self.paths[index], {
    layout = "chw", channels = self.channels, size = self.image_size, filter = self.image_size and self.filter or nil,
  })
  local label = #self.classes > 0 and ai.full({}, self.labels[index], {dtype = "i64"}) or nil
  if self.transform then return self.transform(picture, label) end
  if label then return picture, label end
  return picture
end

function ImageFolder:describe(index) return self.root .. "/" .. self.paths[index] end

--- Another number when pictures come, go or change their names, or are to be of another size.
function ImageFolder:version()
  local size = self.image_size or {0, 0}
  return file.crc32(("%s\n%d %d %d %s"):format(table.concat(self.paths, "\n"), size[1], size[2], self.channels, self.filter))
end

return ImageFolder
