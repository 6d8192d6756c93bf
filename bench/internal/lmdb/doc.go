// Package lmdb binds the C library LMDB with about a dozen calls, and carries the source of a C program that reads
// an LMDB store without cgo. Both find the library at run time, so that the benchmark builds without it.
package lmdb

import "embed"

// Reader is the C program: read.c and the header it includes.
//
//go:embed creader/read.c creader/lmdb_api.h
var Reader embed.FS
