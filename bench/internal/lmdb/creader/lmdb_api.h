/*
 * The part of LMDB's interface that the benchmark uses, bound at run time: a machine without LMDB can still
 * build everything, and says at run time what is missing. Names, numbers and signatures are those of lmdb.h 0.9.
 */
#ifndef LMDB_API_H
#define LMDB_API_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MDB_env MDB_env;
typedef struct MDB_txn MDB_txn;
typedef struct MDB_cursor MDB_cursor;
typedef unsigned int MDB_dbi;
typedef struct MDB_val {
	size_t mv_size;
	void *mv_data;
} MDB_val;

enum {
	MDB_NOSYNC = 0x10000, MDB_RDONLY = 0x20000, MDB_WRITEMAP = 0x80000, MDB_NOTLS = 0x200000, MDB_NORDAHEAD = 0x800000,
	MDB_CREATE = 0x40000, MDB_APPEND = 0x20000, MDB_NOTFOUND = -30798
};
enum { MDB_FIRST = 0, MDB_LAST = 6, MDB_NEXT = 8, MDB_PREV = 12, MDB_SET_RANGE = 17 };

static struct {
	char *(*strerror)(int);
	char *(*version)(int *, int *, int *);
	int (*env_create)(MDB_env **);
	int (*env_set_mapsize)(MDB_env *, size_t);
	int (*env_set_maxreaders)(MDB_env *, unsigned int);
	int (*env_set_maxdbs)(MDB_env *, MDB_dbi);
	int (*env_open)(MDB_env *, const char *, unsigned int, unsigned int);
	int (*env_sync)(MDB_env *, int);
	void (*env_close)(MDB_env *);
	int (*txn_begin)(MDB_env *, MDB_txn *, unsigned int, MDB_txn **);
	int (*txn_commit)(MDB_txn *);
	void (*txn_abort)(MDB_txn *);
	void (*txn_reset)(MDB_txn *);
	int (*txn_renew)(MDB_txn *);
	int (*dbi_open)(MDB_txn *, const char *, unsigned int, MDB_dbi *);
	int (*get)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
	int (*put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned int);
	int (*del)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
	int (*cursor_open)(MDB_txn *, MDB_dbi, MDB_cursor **);
	int (*cursor_renew)(MDB_txn *, MDB_cursor *);
	void (*cursor_close)(MDB_cursor *);
	int (*cursor_get)(MDB_cursor *, MDB_val *, MDB_val *, int);
} mdb;

/* mdb_load binds the library; it returns NULL, or what is missing. */
static const char *mdb_load(void)
{
	static const char *names[] = {"liblmdb.so.0", "liblmdb.so", "liblmdb.dylib", NULL};
	void *lib = NULL;
	for (int i = 0; names[i] && !lib; i++)
		lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return "the library liblmdb is not installed";
#define MDB_BIND(name) \
	if (!(*(void **)&mdb.name = dlsym(lib, "mdb_" #name))) \
		return "liblmdb lacks mdb_" #name;
	MDB_BIND(strerror) MDB_BIND(version)
	MDB_BIND(env_create) MDB_BIND(env_set_mapsize) MDB_BIND(env_set_maxreaders) MDB_BIND(env_set_maxdbs)
	MDB_BIND(env_open) MDB_BIND(env_sync) MDB_BIND(env_close)
	MDB_BIND(txn_begin) MDB_BIND(txn_commit) MDB_BIND(txn_abort) MDB_BIND(txn_reset) MDB_BIND(txn_renew)
	MDB_BIND(dbi_open) MDB_BIND(get) MDB_BIND(put) MDB_BIND(del)
	MDB_BIND(cursor_open) MDB_BIND(cursor_renew) MDB_BIND(cursor_close) MDB_BIND(cursor_get)
#undef MDB_BIND
	return NULL;
}

#endif
