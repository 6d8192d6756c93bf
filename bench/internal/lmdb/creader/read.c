/*
 * Reads an LMDB store that the benchmark's Go half has loaded, without cgo in between: the same keys from the same
 * seeds, every answer checked against the same model. Arguments are name=value; it prints its figures as JSON.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lmdb_api.h"

static struct {
	const char *dir, *work;
	long threads, records, key, value, sorted, pertx, limit;
	uint64_t keyseed, valueseed, seed;
	double seconds, warm;
} arg;

static MDB_env *env;
static MDB_dbi dbi;
static atomic_int stop;

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, rc ? mdb.strerror(rc) : "WRONG ANSWERS");
	exit(1);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static void big_endian(unsigned char *to, uint64_t x)
{
	x = __builtin_bswap64(x);
	memcpy(to, &x, 8);
}

/* make_key writes record i's key; to has room for eight bytes more than a key. */
static void make_key(unsigned char *to, uint64_t i)
{
	uint64_t first = arg.sorted ? i : mix(arg.keyseed + i), x = ~first;
	big_endian(to, first);
	for (long at = 8; at < arg.key; at += 8)
		big_endian(to + at, x = mix(x));
}

static int right_value(uint64_t i, const MDB_val *v)
{
	uint64_t head;
	if ((long)v->mv_size != arg.value)
		return 0;
	memcpy(&head, v->mv_data, 8);
	return head == mix(arg.valueseed ^ i);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

struct worker {
	pthread_t thread;
	MDB_txn *txn;
	MDB_cursor *cursor;
	uint64_t rng, sum;
	unsigned char *key;
	long ops;
	char pad[64];
};

static uint64_t draw(struct worker *w)
{
	w->rng += 0x9e3779b97f4a7c15u;
	return mix(w->rng) % (uint64_t)arg.records;
}

static void get(struct worker *w)
{
	uint64_t i = draw(w);
	MDB_val k = {(size_t)arg.key, w->key}, v;
	make_key(w->key, i);
	int rc = mdb.get(w->txn, dbi, &k, &v);
	if (rc || !right_value(i, &v))
		die("get", rc);
	w->ops++;
}

static void begin(struct worker *w)
{
	int rc = mdb.txn_renew(w->txn);
	if (rc)
		die("renew", rc);
}

static uint64_t digest(const MDB_val *k, const MDB_val *v)
{
	uint64_t tail, head;
	memcpy(&tail, (char *)k->mv_data + k->mv_size - 8, 8);
	memcpy(&head, v->mv_data, 8);
	return tail + head;
}

static void seek(struct worker *w)
{
	uint64_t i = draw(w);
	MDB_val k = {(size_t)arg.key, w->key}, v;
	make_key(w->key, i);
	begin(w);
	int rc = mdb.cursor_renew(w->txn, w->cursor);
	if (!rc)
		rc = mdb.cursor_get(w->cursor, &k, &v, MDB_SET_RANGE);
	if (rc || !right_value(i, &v))
		die("seek", rc);
	for (long n = 1; n < arg.limit && !(rc = mdb.cursor_get(w->cursor, &k, &v, MDB_NEXT)); n++)
		w->sum += digest(&k, &v);
	mdb.txn_reset(w->txn);
	w->ops++;
}

static void *loop(void *p)
{
	struct worker *w = p;
	int single = !strcmp(arg.work, "R1") || !strcmp(arg.work, "R3");
	int empty = !strncmp(arg.work, "R6", 2), seeking = !strcmp(arg.work, "R8");
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (seeking) {
			seek(w);
			continue;
		}
		begin(w);
		if (empty)
			w->ops++;
		else if (single)
			get(w);
		else
			for (long i = 0; i < arg.pertx; i++)
				get(w);
		mdb.txn_reset(w->txn);
	}
	return NULL;
}

/* run lets the workers go for a time and returns the nanoseconds per operation of all together. */
static double run(struct worker *w, double seconds)
{
	double start = now();
	long ops = 0;
	atomic_store(&stop, 0);
	for (long i = 0; i < arg.threads; i++) {
		w[i].ops = 0;
		if (pthread_create(&w[i].thread, NULL, loop, &w[i]))
			die("thread", 0);
	}
	usleep((useconds_t)(seconds * 1e6));
	atomic_store(&stop, 1);
	for (long i = 0; i < arg.threads; i++) {
		pthread_join(w[i].thread, NULL);
		ops += w[i].ops;
	}
	return (now() - start) * 1e9 / (double)(ops ? ops : 1);
}

/* scan returns the best rate of several scans over everything, in millions of keys per second. */
static double scan(struct worker *w, int reverse, double seconds, uint64_t want)
{
	double best = 0, began = now();
	while (best == 0 || now() - began < seconds) {
		MDB_val k, v;
		uint64_t sum = 0;
		long n = 0;
		begin(w);
		int rc = mdb.cursor_renew(w->txn, w->cursor);
		if (rc)
			die("cursor", rc);
		double start = now();
		rc = mdb.cursor_get(w->cursor, &k, &v, reverse ? MDB_LAST : MDB_FIRST);
		for (; !rc; rc = mdb.cursor_get(w->cursor, &k, &v, reverse ? MDB_PREV : MDB_NEXT)) {
			sum += digest(&k, &v);
			n++;
		}
		double rate = (double)n / (now() - start) / 1e6;
		if (rc != MDB_NOTFOUND)
			die("scan", rc);
		if (n != arg.records || sum != want)
			die("scan", 0);
		mdb.txn_reset(w->txn);
		if (rate > best)
			best = rate;
	}
	return best;
}

/* expected is what the digests of all records add up to. */
static uint64_t expected(unsigned char *key)
{
	uint64_t sum = 0, tail;
	for (long i = 0; i < arg.records; i++) {
		make_key(key, (uint64_t)i);
		memcpy(&tail, key + arg.key - 8, 8);
		sum += tail + mix(arg.valueseed ^ (uint64_t)i);
	}
	return sum;
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value)
			exit(2);
		*value++ = 0;
#define ARG(name, expr) if (!strcmp(argv[i], #name)) arg.name = expr
		ARG(dir, value); ARG(work, value);
		ARG(threads, atol(value)); ARG(records, atol(value)); ARG(key, atol(value)); ARG(value, atol(value));
		ARG(sorted, atol(value)); ARG(pertx, atol(value)); ARG(limit, atol(value));
		ARG(keyseed, strtoull(value, NULL, 10)); ARG(valueseed, strtoull(value, NULL, 10));
		ARG(seed, strtoull(value, NULL, 10));
		ARG(seconds, atof(value)); ARG(warm, atof(value));
	}
}

static void open_store(void)
{
	MDB_txn *txn;
	int rc = mdb.env_create(&env);
	if (rc || (rc = mdb.env_set_mapsize(env, (size_t)1 << 40)) || (rc = mdb.env_set_maxreaders(env, 1024)) ||
	    (rc = mdb.env_open(env, arg.dir, MDB_RDONLY | MDB_NOTLS, 0644)) ||
	    (rc = mdb.txn_begin(env, NULL, MDB_RDONLY, &txn)) || (rc = mdb.dbi_open(txn, NULL, 0, &dbi)) ||
	    (rc = mdb.txn_commit(txn)))
		die("open", rc);
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	const char *missing = mdb_load();
	if (missing) {
		fprintf(stderr, "%s\n", missing);
		return 3;
	}
	open_store();
	struct worker *w = calloc((size_t)arg.threads, sizeof *w);
	for (long i = 0; i < arg.threads; i++) {
		int rc = mdb.txn_begin(env, NULL, MDB_RDONLY, &w[i].txn);
		if (rc || (rc = mdb.cursor_open(w[i].txn, dbi, &w[i].cursor)))
			die("reader", rc);
		mdb.txn_reset(w[i].txn);
		w[i].rng = mix(arg.seed + (uint64_t)i);
		w[i].key = malloc((size_t)arg.key + 8);
	}
	uint64_t want = expected(w[0].key);
	scan(&w[0], 0, 0, want); /* verifies everything, and brings it into memory */
	if (!strncmp(arg.work, "R7", 2)) {
		double forward = scan(&w[0], 0, arg.seconds / 2, want), reverse = scan(&w[0], 1, arg.seconds / 2, want);
		printf("[{\"name\":\"forward\",\"value\":%f,\"unit\":\"M keys/s\"},"
		       "{\"name\":\"reverse\",\"value\":%f,\"unit\":\"M keys/s\"}]\n", forward, reverse);
		return 0;
	}
	run(w, arg.warm);
	double ns = run(w, arg.seconds);
	printf("[{\"name\":\"ops/s\",\"value\":%f,\"unit\":\"1/s\"},{\"name\":\"ns/op\",\"value\":%f,\"unit\":\"ns\"}]\n",
	       1e9 / ns, ns);
	return 0;
}
