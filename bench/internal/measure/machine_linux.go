package measure

import (
	"os"
	"strconv"
	"strings"
)

func machineDetails(m *Machine) {
	m.CPU = lineOf("/proc/cpuinfo", "model name")
	m.Kernel = strings.TrimSpace(contentOf("/proc/sys/kernel/osrelease"))
	m.Load = strings.TrimSpace(contentOf("/proc/loadavg"))
	kib := strings.TrimSuffix(lineOf("/proc/meminfo", "MemTotal"), " kB")
	if n, err := strconv.ParseInt(kib, 10, 64); err == nil {
		m.MemoryBytes = n << 10
	}
}

func contentOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

// lineOf returns what stands behind "name :" in a file of such lines.
func lineOf(path, name string) string {
	for _, line := range strings.Split(contentOf(path), "\n") {
		if before, after, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return ""
}
