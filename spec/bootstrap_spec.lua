-- What the two commands of the README promise, as far as it costs little.

local process = require "support.process"

describe("rocks/bootstrap", function()
  local paths = require "aijit.tree"
  if not paths.source then
    pending("no source tree")
    return
  end
  local bootstrap = process.quote(paths.root .. "/rocks/bootstrap")

  it("tells its usage", function()
    local help = process.run(bootstrap .. " --help")
    assert.equal(0, help.status)
    assert.matches("rocks/bootstrap run FILE", help.out, 1, true)
    for _, wrong in ipairs{"", " nonsense", " run"} do
      local result = process.run(bootstrap .. wrong)
      assert.equal(1, result.status)
      assert.matches("usage:", result.err, 1, true)
    end
  end)

  it("refuses a preset that does not exist", function()
    local result = process.run(bootstrap .. " build fast")
    assert.equal(1, result.status)
    assert.matches("no such preset: 'fast'", result.err, 1, true)
  end)

  it("has every package installed after deps, without asking apt again", function()
    local result = process.run(bootstrap .. " deps", {limit = 600})
    assert.equal(0, result.status)
    local again = process.run(bootstrap .. " deps", {limit = 2})
    assert.equal(0, again.status)
    assert.equal("", again.out .. again.err)
  end)

  it("names the packages where there is no apt", function()
    -- A path with the shell's tools alone: no compiler, no cmake, no apt.
    local folder = process.folder()
    for _, tool in ipairs{"sh", "dirname", "grep", "sed", "id"} do
      os.execute(("ln -s $(command -v %s) %s/%s"):format(tool, folder, tool))
    end
    local result = process.run(("PATH=%s %s deps"):format(folder, bootstrap))
    assert.equal(1, result.status)
    assert.matches("on Debian and Ubuntu they are called: .*cmake", result.err)
    os.execute("rm -r " .. folder)
  end)

  it("is clean under shellcheck", function()
    if not process.has("shellcheck") then return pending("no shellcheck") end
    assert.equal("", process.run("shellcheck " .. bootstrap).out)
  end)
end)
