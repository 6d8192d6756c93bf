package alder

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that docs/diff.md and the code say the same.
func TestDiffDocument(t *testing.T) {
	data, err := os.ReadFile("docs/diff.md")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	values := map[string]int{
		"offDiffMagic": offDiffMagic, "offDiffVersion": offDiffVersion, "offDiffFlags": offDiffFlags, "offDiffStore": offDiffStore,
		"offDiffFrom": offDiffFrom, "offDiffTo": offDiffTo, "offDiffChecksum": offDiffChecksum, "diffHeader": diffHeader,
		"opEnd": int(opEnd), "opKeep": int(opKeep), "opCut": int(opCut), "opPut": int(opPut), "opSame": int(opSame),
		"opBucket": int(opBucket), "opIntact": int(opIntact),
	}
	for _, table := range formatTables(text) {
		named := table.column("constant")
		for _, row := range table.rows {
			name := strings.Trim(row[named], "`")
			require.Contains(t, values, name)
			require.Equal(t, strconv.Itoa(values[name]), row[0], name)
			delete(values, name)
		}
	}
	require.Empty(t, values, "constants that docs/diff.md does not have")
	require.Contains(t, text, "`"+string(diffMagic[:])+"`")
	require.Contains(t, text, strconv.Itoa(diffVersion)+" (`diffVersion`)")
	require.Contains(t, text, strconv.Itoa(diffBlock)+", `diffBlock`")
}
