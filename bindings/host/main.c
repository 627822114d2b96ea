// aijit: runs Lua programs, or a REPL. Options as in lua and luajit; a word that is a module of aijit.cli is a subcommand.

#include "host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>

static const char usage[] =
    "usage: aijit [options] [FILE [arguments]]\n"
    "       aijit                       interactive session\n"
    "       aijit -                     run the program on standard input\n"
    "       aijit -m FILE [arguments]   run a task once for each combination of the values given\n"
    "\n"
    "options:\n"
    "  -e CODE     run CODE\n"
    "  -l MODULE   require MODULE, and keep it in a global of its name\n"
    "  -i          interactive session after FILE or CODE\n"
    "  -j CMD      control the compiler: off, on, v, dump, ... (as in luajit)\n"
    "  -v          show versions\n"
    "  -h          show this help\n"
    "  --          end of the options\n";

struct run {
    int argc;
    char **argv;
    struct tree tree;
    int status;                 // the exit status
};

struct options {
    bool interactive, version, help, code, multirun;
    int script;                 // index in argv; argc if there is none
};

// ---- errors

// Appends the stack to the message on top: by aijit.traceback, or LuaJIT's own where that cannot run (the stack is full).
static void append_stack(lua_State *L)
{
    static const char code[] = "local message = ... "
                               "local list = require('aijit.traceback').frames(3, message) "
                               "table.insert(list, 1, message .. '\\nstack traceback:') "
                               "return table.concat(list, '\\n')";
    int message = lua_gettop(L);
    if (luaL_loadbuffer(L, code, strlen(code), "=aijit") == 0) {
        lua_pushvalue(L, message);
        if (lua_pcall(L, 1, 1, 0) == 0) {
            lua_replace(L, message);
            return;
        }
    }
    lua_settop(L, message);
    luaL_traceback(L, L, lua_tostring(L, message), 1);
    lua_replace(L, message);
}

static int describe(lua_State *L)
{
    if (lua_isnil(L, 1)) return 1;                      // error() without a value: a quiet failure, as in lua
    if (!lua_isstring(L, 1)) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_isstring(L, -1)) {
            lua_replace(L, 1);
        } else {
            lua_getglobal(L, "require");                // show what the error object holds, if that is possible
            lua_pushliteral(L, "aijit.inspect");
            if (lua_pcall(L, 1, 1, 0) == 0 && lua_istable(L, -1)) {
                lua_getfield(L, -1, "inspect");
                lua_pushvalue(L, 1);
                if (lua_pcall(L, 1, 1, 0) != 0) lua_pushliteral(L, "?");
            } else {
                lua_pushliteral(L, "?");
            }
            lua_pushfstring(L, "(error object is a %s value) %s", luaL_typename(L, 1), lua_tostring(L, -1));
            lua_replace(L, 1);
        }
    }
    lua_settop(L, 1);
    append_stack(L);
    return 1;
}

// coroutine.wrap and others put a position in front of the word.
static bool is_interrupted(const char *message)
{
    static const char word[] = "interrupted";
    size_t line = message ? strcspn(message, "\n") : 0, n = sizeof word - 1;
    return line >= n && strncmp(message + line - n, word, n) == 0;
}

// Reports the error on top of the stack and pops it.
static void report(lua_State *L, struct run *run)
{
    const char *message = lua_tostring(L, -1);
    fflush(stdout);
    if (!lua_isnil(L, -1)) fprintf(stderr, "aijit: %s\n", message ? message : "(error object is not a string)");
    run->status = interrupt_seen() && is_interrupted(message) ? 130 : EXIT_FAILURE;
    lua_pop(L, 1);
}

// Calls the function below its arguments; on an error the description is reported. Leaves no results.
static bool call(lua_State *L, struct run *run, int arguments)
{
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, describe);
    lua_insert(L, base);
    int failed = lua_pcall(L, arguments, 0, base);
    if (failed) report(L, run);
    lua_remove(L, base);
    return !failed;
}

// A chunk that did not load has no traceback to show.
static bool run_loaded(lua_State *L, struct run *run, int failed_to_load)
{
    if (failed_to_load) {
        report(L, run);
        return false;
    }
    return call(L, run, 0);
}

static bool run_code(lua_State *L, struct run *run, const char *code, const char *name)
{
    return run_loaded(L, run, luaL_loadbuffer(L, code, strlen(code), name));
}

// Calls require(module)[name] with the arguments on top of the stack and pops them; an integer result is the exit status.
static bool call_module(lua_State *L, struct run *run, const char *module, const char *name, int arguments)
{
    static const char code[] = "local module, name = ... "
                               "local f = require(module)[name] "
                               "return function(...) return f(...) end";
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, describe);
    lua_insert(L, base + 1);
    bool ok = luaL_loadbuffer(L, code, strlen(code), "=aijit") == 0;
    lua_pushstring(L, module);
    lua_pushstring(L, name);
    ok = ok && lua_pcall(L, 2, 1, base + 1) == 0;
    if (ok) {
        lua_insert(L, base + 2);
        ok = lua_pcall(L, arguments, 1, base + 1) == 0;
    }
    if (!ok) report(L, run);
    else if (lua_isnumber(L, -1)) run->status = (int)lua_tointeger(L, -1);
    lua_settop(L, base);
    return ok;
}

// ---- options

static bool wrong(struct run *run, const char *what, const char *which)
{
    fprintf(stderr, "aijit: %s '%s'\n%s", what, which, usage);
    run->status = EXIT_FAILURE;
    return false;
}

static bool parse(struct run *run, struct options *o)
{
    int i;
    for (i = 1; i < run->argc; i++) {
        const char *a = run->argv[i];
        if (a[0] != '-' || a[1] == 0) break;
        if (strcmp(a, "--") == 0) {
            i++;
            break;
        }
        if (strcmp(a, "--help") == 0) { o->help = true; continue; }
        if (strcmp(a, "--version") == 0) { o->version = true; continue; }
        if (strchr("elj", a[1])) {
            if (a[1] != 'j') o->code = true;
            if (a[2] == 0 && ++i >= run->argc) return wrong(run, "an argument is missing after", a);
            continue;
        }
        if (!strchr("imvh", a[1]) || a[2] != 0) return wrong(run, "no such option:", a);
        if (a[1] == 'i') o->interactive = true;
        if (a[1] == 'v') o->version = true;
        if (a[1] == 'h') o->help = true;
        if (a[1] == 'm') {
            o->multirun = true;
            i++;
            break;
        }
    }
    o->script = i;
    if (o->multirun && i >= run->argc) return wrong(run, "a file is missing after", "-m");
    return true;
}

static bool run_compiler_command(lua_State *L, struct run *run, const char *command)
{
    static const char code[] = "local name, options = (...):match('^(%w+)=?(.*)$') "
                               "local f = jit[name] "
                               "if f then f() else require('jit.' .. name).start(options ~= '' and options or nil) end";
    if (luaL_loadbuffer(L, code, strlen(code), "=-j")) return run_loaded(L, run, 1);
    lua_pushstring(L, command);
    return call(L, run, 1);
}

static bool run_module(lua_State *L, struct run *run, const char *name)
{
    static const char code[] = "local name = ... local module = require(name) "
                               "if module ~= true then _G[name:match('[^.]+$')] = module end";
    if (luaL_loadbuffer(L, code, strlen(code), "=-l")) return run_loaded(L, run, 1);
    lua_pushstring(L, name);
    return call(L, run, 1);
}

// -e, -l and -j, in the order in which they stand.
static bool run_options(lua_State *L, struct run *run, const struct options *o)
{
    for (int i = 1; i < o->script && i < run->argc; i++) {
        const char *a = run->argv[i];
        if (a[0] != '-' || !a[1] || !strchr("elj", a[1])) continue;
        const char *value = a[2] ? a + 2 : run->argv[++i];
        bool ok = a[1] == 'e'   ? run_code(L, run, value, "=(command line)")
                  : a[1] == 'l' ? run_module(L, run, value)
                                : run_compiler_command(L, run, value);
        if (!ok) return false;
    }
    return true;
}

// The table arg: the program's name at 0, its arguments after it, what stands before it below 0. With -m the program
// finds "-m" as its first argument.
static void set_arg(lua_State *L, const struct run *run, const struct options *o)
{
    int script = o->script < run->argc ? o->script : 0;
    lua_newtable(L);
    for (int i = 0; i < run->argc; i++) {
        lua_pushstring(L, run->argv[i]);
        lua_rawseti(L, -2, i > script && o->multirun ? i - script + 1 : i - script);
    }
    if (o->multirun) {
        lua_pushliteral(L, "-m");
        lua_rawseti(L, -2, 1);
    }
    lua_setglobal(L, "arg");
}

static int push_arguments(lua_State *L)
{
    lua_getglobal(L, "arg");
    int table = lua_gettop(L), n = (int)lua_objlen(L, table);
    luaL_checkstack(L, n + 4, "too many arguments");
    for (int i = 1; i <= n; i++) lua_rawgeti(L, table, i);
    lua_remove(L, table);
    return n;
}

// ---- running

static bool run_init(lua_State *L, struct run *run)
{
    const char *init = getenv("LUA_INIT");
    if (!init || !*init) return true;
    return init[0] == '@' ? run_loaded(L, run, luaL_loadfile(L, init + 1)) : run_code(L, run, init, "=LUA_INIT");
}

// A plain word with a module aijit.cli.WORD: its run(...) gets the arguments, and its result is the exit status.
static bool is_subcommand(lua_State *L, const char *word)
{
    for (const char *p = word; *p; p++) {
        if (*p < 'a' || *p > 'z') return false;
    }
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushfstring(L, "aijit.cli.%s", word);
    lua_getfield(L, -3, "path");
    lua_call(L, 2, 1);
    bool found = !lua_isnil(L, -1);
    lua_pop(L, 2);
    return found && strcmp(word, "init") != 0;
}

static bool run_script(lua_State *L, struct run *run, const struct options *o)
{
    const char *name = run->argv[o->script];
    if (!o->multirun && is_subcommand(L, name)) {
        const char *module = lua_pushfstring(L, "aijit.cli.%s", name);
        return call_module(L, run, module, "run", push_arguments(L));
    }
    bool stdin_wanted = strcmp(name, "-") == 0 && strcmp(run->argv[o->script - 1], "--") != 0;
    if (luaL_loadfile(L, stdin_wanted ? NULL : name)) return run_loaded(L, run, 1);
    return call(L, run, push_arguments(L));
}

static bool check_luajit(lua_State *L, struct run *run)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "abi");
    lua_pushliteral(L, "gc64");
    lua_call(L, 1, 1);
    bool gc64 = lua_toboolean(L, -1);
    lua_pop(L, 2);
    if (gc64) return true;
    fprintf(stderr, "aijit: this LuaJIT is built without GC64, so its heap would end at 2 GB; put one with GC64 in its place\n"
                    "(Debian 12 and later: libluajit-5.1-2; Ubuntu 22.04: libluajit2-5.1-2)\n");
    run->status = EXIT_FAILURE;
    return false;
}

static bool open_tree(lua_State *L, struct run *run)
{
    bool found = tree_find(&run->tree);
    module_preload(L, &run->tree);
    if (!found) {
        fprintf(stderr, "aijit: the Lua files that belong to %s were not found (share/lua/5.1/aijit in a folder above it)\n",
                run->tree.exe);
        run->status = EXIT_FAILURE;
        return false;
    }
    tree_set_paths(L, &run->tree);
    return run_code(L, run, "require 'aijit.tree'", "=aijit");
}

static int protected_main(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    struct options o = {0};
    lua_settop(L, 0);
    if (!parse(run, &o)) return 0;
    lua_gc(L, LUA_GCSTOP, 0);
    luaL_openlibs(L);
    lua_gc(L, LUA_GCRESTART, -1);
    if (o.version) printf("aijit %s, %s\n", AIJIT_VERSION, LUAJIT_VERSION);
    if (!check_luajit(L, run) || !open_tree(L, run)) return 0;
    if (o.help) {
        fputs(usage, stdout);
        call_module(L, run, "aijit.cli", "help", 0);
        return 0;
    }
    set_arg(L, run, &o);
    interrupt_start(L);
    if (!run_init(L, run)) return 0;
    bool has_script = o.script < run->argc;
    bool ok = run_options(L, run, &o) && (!has_script || run_script(L, run, &o));
    bool nothing_else = !has_script && !o.code && !o.version;
    if (o.interactive || (ok && nothing_else)) {
        run->status = EXIT_SUCCESS;
        call_module(L, run, "aijit.repl", "run", 0);
    }
    return 0;
}

// A file opened later must not get the number of a standard stream that was closed: print would write into it.
static void keep_standard_streams(void)
{
    while (true) {
        int fd = open("/dev/null", O_RDONLY);           // read-only also for the outputs: writing to them shall fail
        if (fd < 0) return;
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    static struct run run;
    keep_standard_streams();
    run.argc = argc;
    run.argv = argv;
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("aijit: not enough memory to start\n", stderr);
        return EXIT_FAILURE;
    }
    if (lua_cpcall(L, protected_main, &run)) report(L, &run);
    interrupt_stop();
    lua_close(L);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("aijit: standard output");
        if (run.status == EXIT_SUCCESS) run.status = EXIT_FAILURE;
    }
    if (run.status == 130) interrupt_die();
    return run.status;
}
