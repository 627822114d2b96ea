--- The layers point one way: examples and specs, lua, bindings, core, core/cpu. No arrow runs back.

local function files(pattern)
  local list, p = {}, io.popen("git ls-files --cached --others --exclude-standard " .. pattern .. " 2>/dev/null")
  for name in p:lines() do list[#list + 1] = name end
  p:close()
  return list
end

local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

local function without_comments(text) return (text:gsub("%-%-%[%[.-%]%]", ""):gsub("%-%-[^\n]*", "")) end

if #files "core" == 0 then
  pending "layers: this is not a checkout"
  return
end

it("lua/ never says ffi", function()
  for _, path in ipairs(files "lua") do
    if path:match "%.lua$" then
      local text = without_comments(read(path))
      assert.is_nil(text:match "require%s*%(?%s*[\"']ffi[\"']", path)
      assert.is_nil(text:match "ffi%.%a+%s*[%(%[\"{]", path)
    end
  end
end)

it("bindings/ require no module of lua/ but the tree, the nearest names and what is loaded on demand", function()
  local allowed = {["aijit.tree"] = true, ["aijit.nearest"] = true}
  for _, path in ipairs(files "bindings") do
    if path:match "%.lua$" then
      for module in without_comments(read(path)):gmatch "require%s*%(?%s*[\"'](aijit[%w_.]*)[\"']" do
        assert.is_true(module:match "^aijit%.bindings%." ~= nil or allowed[module] == true, path .. " requires " .. module)
      end
    end
  end
end)

it("core/ includes nothing of cuda/ or bindings/, and only core/cpu/ and backend.c know core/cpu/", function()
  for _, path in ipairs(files "core") do
    if path:match "%.[ch]$" or path:match "%.inc$" then
      for name in read(path):gmatch "#include%s+\"([^\"]+)\"" do
        assert.is_nil(name:match "cuda" or name:match "bindings", path .. " includes " .. name)
        if not path:match "^core/cpu/" then assert.is_nil(name:match "^cpu/" or name:match "/cpu/", path .. " includes " .. name) end
        if path:match "^core/rule/" then assert.is_nil(name:match "io", path .. " includes " .. name) end
      end
    end
  end
end)

it("cuda/ sees of the core what backend.h gives, and plain C that kernels share", function()
  local open = {["backend.h"] = true, ["ops.def"] = true, ["philox.h"] = true,
    ["special.h"] = true, ["cpu/optim_reals.inc"] = true, ["bessel.h"] = true, ["incomplete.h"] = true, ["normal.h"] = true,
    ["airy.h"] = true, ["ordinary.h"] = true, ["key.h"] = true, ["place.h"] = true, ["grid.h"] = true, ["grid.inc"] = true}
  for _, path in ipairs(files "cuda") do
    for name in read(path):gmatch "#include%s+\"%.%./core/([^\"]+)\"" do assert.is_true(open[name] == true, path .. " includes " .. name) end
  end
end)

it("rules are device-free: they never touch a tensor's data", function()
  for _, path in ipairs(files "core/rule") do
    local text = read(path):gsub("/%*.-%*/", "")
    if not path:match "rule/view%.c" then
      assert.is_nil(text:match "%(%s*float%s*%*%s*%)" or text:match "%(%s*double%s*%*%s*%)", path)
    end
  end
end)

it("the top level holds the agreed names only", function()
  local agreed = {["CMakeLists.txt"] = 1, core = 1, cuda = 1, lua = 1, bindings = 1, examples = 1, spec = 1, rocks = 1, ["README.md"] = 1,
    LICENSE = 1, ["CMakePresets.json"] = 1}
  for _, path in ipairs(files ".") do
    local top = path:match "^[^/]+"
    assert.is_true(agreed[top] ~= nil or top:sub(1, 1) == ".", top)
  end
end)

it("no file of code is longer than 650 lines, but for the table of ops", function()
  for _, path in ipairs(files "core lua bindings") do
    if path:match "%.[ch]$" or path:match "%.lua$" or path:match "%.inc$" then
      local _, lines = read(path):gsub("\n", "")
      assert.is_true(lines <= 650, path .. " has " .. lines .. " lines")
    end
  end
end)
