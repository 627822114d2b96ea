--- `aijit study DIR`: the trials of a study, the best first, and a picture of them.

local M = {summary = "show a study's trials: aijit study DIR [-o FILE.png] [--csv]"}

local function fail(text)
  io.stderr:write("aijit study: ", text, "\n")
  return 2
end

---@param ... string the study's folder, -o FILE, --csv
---@return integer? status
function M.run(...)
  local words, dir, out, csv, i = {...}, nil, nil, false, 1
  while i <= #words do
    local word = words[i]
    if word == "-o" or word == "--out" then
      i = i + 1
      out = words[i] or nil
      if not out then return fail(word .. " wants a file after it") end
    elseif word == "--csv" then csv = true
    elseif word:sub(1, 1) == "-" then return fail(("there is no option %s; -o FILE.png draws, --csv prints for spreadsheets"):format(word))
    elseif dir then return fail(("one study at a time: '%s' and '%s'"):format(dir, word))
    else dir = word end
    i = i + 1
  end
  if not dir then return fail "which study? aijit study DIR" end
  local ai = require "aijit"
  if not require("aijit.io.file").exists(dir .. "/study.jsonl") then return fail(("'%s' is no study's folder: it has no study.jsonl"):format(dir)) end
  local ok, study = pcall(ai.lab.Study, {folder = dir})
  if not ok then return fail((tostring(study):gsub("^[^\n:]+%.lua:%d+: ", ""))) end
  io.stdout:write(csv and require("aijit.lab.table").csv(study:rows()) or tostring(study))
  if out then
    local drawn, problem = pcall(study.plot, study, out)
    if not drawn then return fail((tostring(problem):gsub("^[^\n:]+%.lua:%d+: ", ""))) end
  end
  return 0
end

return M
