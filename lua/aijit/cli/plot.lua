-- aijit plot DIR...: the curves of runs, in the terminal or as a picture.

local M = {summary = "draw the curves of runs, in the terminal or into a picture"}

local usage = [[
usage: aijit plot DIR... [options]
  DIR                 a run's folder, with the log.jsonl that ai.log.Jsonl writes
  -n, --name NAME     only this number (loss, train/loss, grad/*); may be given again
  -o, --out FILE.png  a picture instead of text
  -x step|time|epoch  what the curves go over (step)
  -s, --smooth W      weight of the past in a mean, 0 to 1
      --log-x --log-y logarithmic axes
      --width N --height N   of the picture in dots, or of a panel in letters
]]

--- Reads the words. Raises, without a place in the code, for one that is not known.
---@param words string[]
---@return string[] dirs
---@return table options
function M.parse(words)
  local dirs, o, i = {}, {}, 1
  local function next_word(name)
    i = i + 1
    return words[i] or error(name .. " wants a value after it", 0)
  end
  local function next_number(name) return tonumber(next_word(name)) or error(("%s wants a number, not '%s'"):format(name, words[i]), 0) end
  while i <= #words do
    local word = words[i]
    if word == "-n" or word == "--name" then
      o.names = o.names or {}
      table.insert(o.names, next_word(word))
    elseif word == "-o" or word == "--out" then o.out = next_word(word)
    elseif word == "-x" then o.x = next_word(word)
    elseif word == "-s" or word == "--smooth" then o.smooth = next_number(word)
    elseif word == "--log-x" then o.log_x = true
    elseif word == "--log-y" then o.log_y = true
    elseif word == "--width" then o.width = next_number(word)
    elseif word == "--height" then o.height = next_number(word)
    elseif word == "-h" or word == "--help" then o.help = true
    elseif word:sub(1, 1) == "-" and #word > 1 then error(("there is no option %s"):format(word), 0)
    else dirs[#dirs + 1] = word end
    i = i + 1
  end
  return dirs, o
end

--- aijit plot.
---@return integer status
function M.run(...)
  local ok, dirs, o = pcall(M.parse, {...})
  if not ok or #dirs == 0 or o.help then
    io.stderr:write(ok and usage or ("aijit plot: %s\n%s"):format(dirs, usage))
    return ok and o.help and 0 or 1
  end
  local system = require "aijit.bindings.system"
  local plot = require("aijit").plot
  local out = o.out
  local size = {width = o.width, height = o.height}
  local fine, problem = pcall(function()
    local figure = plot(dirs, {names = o.names, x = o.x, smooth = o.smooth, log_x = o.log_x, log_y = o.log_y,
      width = out and size.width, height = out and size.height})
    if out then
      figure:save(out)
      print(out)
    else
      local terminal = system.is_terminal(1)
      io.stdout:write(figure:text {width = size.width or system.columns(1) or 80, height = size.height, color = terminal and not os.getenv "NO_COLOR"})
    end
  end)
  if not fine then
    io.stderr:write("aijit plot: ", (tostring(problem):gsub("^[^\n:]+%.lua:%d+: ", ""):gsub("^plot: ", "")), "\n")
    return 1
  end
  return 0
end

return M
