std = "luajit"
max_line_length = 160
unused_args = false        -- an argument documents a contract even where one implementation has no use for it
ignore = {"581"}           -- `not (x <= y)` is not `x > y` where x may be NaN
exclude_files = {"build", "build.luarocks"}

files["spec"] = {std = "+busted", max_line_length = 160}
