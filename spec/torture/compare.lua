-- Whether two runs came to the same: the bytes of their last checkpoint's tensors, and their logs but for the times.

local compare = {}

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function names(command)
  local list, pipe = {}, io.popen(command .. " 2>/dev/null")
  for name in pipe:lines() do list[#list + 1] = name end
  pipe:close()
  return list
end

--- The lines of log.jsonl without their times.
local function log(dir)
  local text = read(dir .. "/log.jsonl")
  return text and text:gsub('"t":[%d%.]+,', "") or nil
end

--- The events of a phase, by step, without their times; those that begin a file are left out.
local function events(dir, phase)
  local list = {}
  for _, path in ipairs(names("ls " .. dir .. "/tensorboard/" .. phase .. "/events.out.tfevents.*")) do
    local text, at = read(path), 1
    while at <= #text do
      local a, b, c = text:byte(at, at + 2)
      local length = a + b * 256 + c * 65536
      if at + 15 + length > #text then error(path .. ": the last record is torn") end
      local data = text:sub(at + 12, at + 11 + length)
      at = at + 16 + length
      -- A time of nine bytes, then the step as a varint after its tag.
      local step, scale, k = 0, 1, 11
      repeat
        local byte = data:byte(k)
        step, scale, k = step + byte % 128 * scale, scale * 128, k + 1
      until byte < 128
      if step > 0 then list[#list + 1] = {step = step, data = data:sub(10)} end
    end
  end
  table.sort(list, function(x, y) return x.step < y.step end)
  local texts = {}
  for i, one in ipairs(list) do texts[i] = one.data end
  return table.concat(texts, "\n")
end

--- What differs between two runs that ended at a step; nil when nothing does.
---@param a string
---@param b string
---@param step integer
---@return string?
function compare.difference(a, b, step)
  for _, name in ipairs {"model.safetensors", "ema.safetensors", "optimizer.safetensors"} do
    local path = ("/checkpoints/step-%d/%s"):format(step, name)
    local x, y = read(a .. path), read(b .. path)
    if not x or not y then return path .. " is missing" end
    if x ~= y then return path .. " differs" end
  end
  if not log(a) or log(a) ~= log(b) then return "log.jsonl differs" end
  for _, phase in ipairs {"train", "valid"} do
    if events(a, phase) ~= events(b, phase) then return "the events of " .. phase .. " differ" end
  end
end

return compare
