local command = require "aijit.config.command"
local configs = require "support.configs"
local file = require "aijit.config.file"
local process = require "support.process"
local text = require "aijit.config.text"

local message, has, Mine = configs.message, configs.has, configs.Mine

describe("a config file", function()
  local folder = process.folder()
  local function write(name, content)
    local handle = assert(io.open(folder .. "/" .. name, "wb"))
    handle:write(content)
    handle:close()
    return folder .. "/" .. name
  end
  teardown(function() os.execute("rm -r " .. folder) end)

  it("in Lua returns a table and sees nothing of the program", function()
    assert.same({rate = 0.5}, file.read(write("a.lua", "return {rate = 1 / 2}")))
    has("attempt to", message(file.read, write("b.lua", "os.exit(3)")))
    has("attempt to", message(file.read, write("b.lua", "return {x = require 'os'}")))
  end)

  it("in Lua ends after so many steps or bytes, and has no methods of strings", function()
    has("more than 10000000 steps", message(file.read, write("d.lua", "while true do end")))
    has("it takes more than 64 MB", message(file.read, write("e.lua", "local s = 'xxxxxxxxxxxxxxxx' while true do s = s .. s end")))
    has("attempt to", message(file.read, write("f.lua", "return {('x'):rep(1e9)}")))
    has("it holds a function", message(file.read, write("g.lua", "return {f = function() end}")))
    has("nests deeper than 512", message(file.read, write("h.lua", "local t = {} t.t = t return t")))
    assert.equal("xx", ("x"):rep(2))
    assert.is_nil((debug.gethook()))
  end)

  it("is loaded with others by load", function()
    local a, b = write("one.yaml", "rate: 0.2\nsteps: 1\n"), write("two.json", '{"rate": 0.3}')
    local c = Mine.load(a, b)
    assert.same({0.3, 1}, {c.rate, c.steps})
    has("two.json: rate must be at most 1", message(Mine.load, write("two.json", '{"rate": 3}')))
  end)

  it("in Lua is text, never bytecode", function()
    has("attempt to load", message(file.read, write("c.lua", string.dump(function() return {} end))))
  end)

  it("is merged in order, under the command line", function()
    local a, b = write("one.lua", "return {rate = 0.2, steps = 1}"), write("two.lua", "return {rate = 0.3, inner = {size = 5}}")
    local c = Mine()
    command.merge(c, {a, b, "steps=9"}, {getenv = function() end})
    assert.same({0.3, 9, 5}, {c.rate, c.steps, c.inner.size})
    has("(file " .. b .. ")", text.help(c, "x"))
  end)

  it("is named in errors", function()
    local bad = write("bad.lua", "return {inner = {sizes = 1}}")
    has("bad.lua': section 'inner' has no field 'sizes'", message(command.merge, Mine(), {bad}))
    has("config file 'no/such.lua' cannot be opened", message(file.read, "no/such.lua"))
    has("holds number, not a table", message(file.read, write("n.lua", "return 3")))
    has("l.yaml' holds a list, not a table of fields", message(file.read, write("l.yaml", "- 1\n- 2\n")))
    has("its name must end in", message(file.read, "a.toml"))
  end)

  it("in YAML is read: words such as no are texts, 1e-3 is a number", function()
    local c = Mine()
    command.merge(c, {write("a.yaml", 'rate: 1e-3\nname: no\ninner:\n  deep: {on: false}\nlimit: null\nbetas: [1, 2]\n')})
    assert.same({1e-3, false, "no"}, {c.rate, c.inner.deep.on, c.name})
    assert.same({1, 2}, c.betas)
  end)

  it("in YAML gives back what tostring wrote", function()
    local odd = {name = "yes", rate = 1e-5, betas = {1 / 3, 1e20}}
    local c, d = Mine(odd), Mine()
    command.merge(d, {write("b.yaml", tostring(c))})
    assert.is_true(c == d)
    assert.equal("yes", d.name)
  end)

  it("in YAML names the line of a mistake", function()
    has("b.yaml': yaml: line 2, column 1: the key \"rate\" stands here for a second time", message(file.read, write("b.yaml", "rate: 1\nrate: 2\n")))
  end)

  it("in JSON is read", function()
    local c = Mine()
    command.merge(c, {write("a.json", '{"rate": 0.25, "limit": null, "betas": []}')})
    assert.equal(0.25, c.rate)
    assert.same({}, c.betas)
  end)
end)
