// What the parts of the aijit executable share. It is a thin program around LuaJIT: everything a user sees beyond options,
// Ctrl-C and line editing is Lua, and libaijit.so is loaded only when a program requires "aijit".

#ifndef AIJIT_HOST_H
#define AIJIT_HOST_H

#include <limits.h>
#include <stdbool.h>

#include <lua.h>

// Where the executable lies and which tree of Lua files belongs to it.
struct tree {
    char exe[PATH_MAX];         // of /proc/self/exe, links resolved
    char dir[PATH_MAX];         // its folder
    char lua[PATH_MAX];         // the folder that holds aijit/tree.lua; empty when none was found
    char prefix[PATH_MAX];      // the install prefix or rock tree; empty in a source tree
};

// Fills in `tree`; false when no Lua files were found (tree->lua is empty then).
bool tree_find(struct tree *tree);
// Puts the tree's folders in front of package.path and package.cpath.
void tree_set_paths(lua_State *L, const struct tree *tree);

// The module aijit.host: terminal, line editing, file names, library versions.
void module_preload(lua_State *L, const struct tree *tree);

// Ctrl-C. The first raises the error "interrupted" in whatever Lua runs, compiled loops included; a second within a second
// of it ends the process. Starts LuaJIT's profiler in line mode for that, so a program that starts its own takes it over.
void interrupt_start(lua_State *L);
// Before the Lua state is closed: Ctrl-C ends the process at once from here on.
void interrupt_stop(void);
// In a session (the REPL) that holds only while it listens, and quick presses do not end the process once the first was heard.
// While it does not listen, Ctrl-C only sets a flag, which interrupt_take returns and clears.
void interrupt_session(bool on);
void interrupt_listen(bool on);
bool interrupt_take(void);
// How to tell the core's long loops: aj_interrupt of the loaded library, or NULL.
void interrupt_set_core(void (*core)(bool on));
// True once Ctrl-C has been pressed.
bool interrupt_seen(void);
// Ends the process as SIGINT does by default, so that a shell sees 130 and stops its own loop.
void interrupt_die(void);

#endif
