--- Public functions carry annotations that editors and ai.help read.
--
-- Public are the functions of the table that a file returns, and the methods of classes. A method that is annotated where
-- a class first declares it needs no second annotation in a subclass.

local function files(pattern)
  local list, p = {}, io.popen("git ls-files --cached --others --exclude-standard " .. pattern .. " 2>/dev/null")
  for name in p:lines() do list[#list + 1] = name end
  p:close()
  return list
end

local functions, annotated, seen = {}, {}, 0
for _, path in ipairs(files "lua bindings") do
  if path:match "%.lua$" and not path:match "/repl/" then
    local before, lines, returned = "", {}, {Tensor = true}
    for line in io.lines(path) do
      local name = line:match "^return%s+([%w_]+)%s*$" or line:match "^return%s+setmetatable%(([%w_]+)"
      if name then returned[name] = true end
      lines[#lines + 1] = line
    end
    for _, line in ipairs(lines) do
      local owner, mark, name = line:match "^function%s+([%w_]+)([.:])([%a][%w_]*)%s*%("
      if owner and (mark == ":" or returned[owner]) then
        local has = before:match "^%s*%-%-%-" ~= nil
        functions[#functions + 1] = {path = path, line = line, method = mark == ":", name = name, has = has}
        if has then annotated[name] = true end
        seen = seen + 1
      end
      if line:match "%S" then before = line end
    end
  end
end

it("every public function has an annotation above it", function()
  if seen == 0 then return pending "this is not a checkout" end
  local bare = {}
  for _, f in ipairs(functions) do
    if not f.has and not (f.method and annotated[f.name]) then bare[#bare + 1] = f.path .. ": " .. f.line end
  end
  assert.are.same({}, bare)
end)
