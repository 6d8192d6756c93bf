package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that measurements of TestChurn become a drawing that stays small, however many they are, and that what is none is refused.
func TestChurn_Draws(t *testing.T) {
	rows := []string{"seconds,steps,file,trees,pinned,free,log,readers,bound"}
	for i := range 20_000 {
		rows = append(rows, fmt.Sprintf("%d,%d,%d,%d,5,5,5,1,%d", i, 10*i, int(50e6), int(20e6)+i%1000, int64(90e6)))
	}
	var svg bytes.Buffer
	require.NoError(t, Churn(&svg, strings.NewReader(strings.Join(rows, "\n"))))
	require.Contains(t, svg.String(), "<svg")
	require.Less(t, svg.Len(), 200_000)
	for _, bad := range []string{"", rows[0], "a,b\n1,2", rows[0] + "\nx,y,z,1,1,1,1,1,1"} {
		require.Error(t, Churn(&svg, strings.NewReader(bad)), bad)
	}
}
