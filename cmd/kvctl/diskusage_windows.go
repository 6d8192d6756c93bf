package main

import "os"

// diskUsage is not known there.
func diskUsage(os.FileInfo) int64 { return 0 }
