package engine

import "runtime/debug"

// moduleVersion returns a function that finds the version of a module in the running program.
func moduleVersion(path string) func() string {
	return func() string {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			return "unknown"
		}
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
		return "unknown"
	}
}
