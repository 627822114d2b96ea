--- spec/torture in short: a training killed at random moments, failing writes, and what is left after many steps.

local files = require "support.files"
local process = require "support.process"

local aijit = process.aijit()
if not aijit then return end

local function run(command, limit)
  return process.run(("AIJIT=%s %s"):format(aijit, command), {limit = limit or 120})
end

describe("a training that saves every few steps", function()
  it("goes on to the same bits after each of several kills", function()
    local result = run "luajit spec/torture/kill.lua 4 1"
    assert.equal(0, result.status, result.out .. result.err)
    assert.matches("all equal to the bit", result.out)
  end)

  it("loses no checkpoint when a write, sync, rename or log fails, and says why it ends", function()
    if not process.has "cc" then return pending "there is no C compiler" end
    -- The sanitizers' libraries must come before any other.
    if aijit:match("/asan/") or aijit:match("/tsan/") then return pending "a sanitized program cannot preload a library" end
    local result = run("luajit spec/torture/fault.lua 31 5", 240)
    assert.equal(0, result.status, result.out .. result.err)
    assert.matches("every next run resumed and came to the same bits", result.out)
  end)

  it("leaves no file open and no tensor behind", function()
    local folder = files.folder()
    local result = process.run(("%s spec/torture/leak.lua exp_dir=%s/run max_steps=1000"):format(aijit, folder), {limit = 240})
    files.remove(folder)
    local before, after = result.out:match("(%d+) files open, .-\n.- (%d+) files open")
    assert.equal(before, after)
    before, after = result.out:match("(%d+) bytes in tensors.-\n.- (%d+) bytes in tensors")
    assert.is_true(tonumber(after) <= tonumber(before), result.out)
  end)
end)
