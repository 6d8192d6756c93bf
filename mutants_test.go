package alder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Mutants: the engine with one rule of its protocol taken out, which the tests must notice. The change is made from outside, to a
// copy of a source file that the compiler is told to use instead, so that the engine itself has no switch for it.
//
// A mutant is killed if its package compiles, the test that the table names fails, and it fails because it has seen what must not be: not
// because of a hang, or a crash of the test itself. The package without a change must pass the same tests.

var mutantsFlag = flag.String("alder.mutants", "", "mutants to be killed: all, few, or a regular expression for names; empty: none")

// mutant is a rule taken out of the engine.
type mutant struct {
	name  string
	rule  string // that is missing then
	edits []mutantEdit

	test  string // that must fail, with the subtest; "": TestCrash
	quick bool   // it is one of the few
}

// mutantEdit replaces what occurs in a file exactly once.
type mutantEdit struct{ file, old, new string }

// mutantImages is how many crash images TestCrash may need.
const mutantImages = 200000

// mutantTime is how long a killer may run.
const mutantTime = 5 * time.Minute

func (m *mutant) killer() string {
	if m.test == "" {
		return "TestCrash"
	}
	return m.test
}

// change returns the changed files, by name.
func (m *mutant) change() (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		text, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(e.file)
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s: the text to be replaced occurs %d times, must once: the engine has changed, the mutant must follow\n%s", e.file, n, e.old)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return changed, nil
}

// testFiles returns the names of the files of tests, of the engine and of its public API.
func testFiles(t *testing.T) (engine, public []string) {
	t.Helper()
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := packageClause.FindSubmatch(text); found != nil && string(found[1]) == "alder_test" {
			public = append(public, name)
		} else {
			engine = append(engine, name)
		}
	}
	return engine, public
}

// hasTest reports whether one of the files has the test that kills m.
func (m *mutant) hasTest(t *testing.T, files []string) bool {
	t.Helper()
	name, _, _ := strings.Cut(m.killer(), "/")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\nfunc "+name+"(")) {
			return true
		}
	}
	return false
}

// build compiles the tests of the package with the mutant in it.
func (m *mutant) build(t *testing.T) string {
	t.Helper()
	changed, err := m.change()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, text := range changed {
		original, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		overlay.Replace[original] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Tests of the public API, where they do not kill it, are as good as not there: to compile them, and what they use, would take as long again.
	if _, public := testFiles(t); !m.hasTest(t, public) {
		for _, name := range public {
			path, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			overlay.Replace[path] = ""
		}
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", file, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not compile: %v\n%s", err, out)
	}
	return binary
}

var packageClause = regexp.MustCompile(`(?m)^package (\w+)`)

// mutantVerdict is what a killer said.
type mutantVerdict struct {
	failed bool
	images string // "": the test counts none
	why    string
	output []byte
	time   time.Duration
}

var (
	mutantImagesSeen = regexp.MustCompile(`after (\d+) images: `)
	mutantViolation  = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: ((?s:.+))`)
)

// runMutant lets a test of a binary run. An error is one that says nothing about the rule.
func runMutant(binary, killer string, images int64) (v mutantVerdict, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), mutantTime+10*time.Second)
	defer cancel()
	name, subtest, _ := strings.Cut(killer, "/")
	pattern := "^" + name + "$"
	if subtest != "" {
		pattern += "/^" + subtest + "$"
	}
	args := []string{"-test.v", "-test.run=" + pattern, "-test.timeout=" + mutantTime.String(), fmt.Sprintf("-alder.images=%d", images), "-alder.shrink=0"}
	begun := time.Now()
	v.output, err = exec.CommandContext(ctx, binary, args...).CombinedOutput()
	v.time = time.Since(begun)
	if found := mutantImagesSeen.FindSubmatch(v.output); found != nil {
		v.images = string(found[1])
	}
	ran := bytes.Contains(v.output, []byte("=== RUN   "+killer+"\n"))
	var exit *exec.ExitError
	switch {
	case !ran:
		return v, fmt.Errorf("%s does not exist: %v", killer, err)
	case err == nil:
		return v, nil
	case !errors.As(err, &exit) || exit.ExitCode() != 1 && !bytes.Contains(v.output, []byte("--- FAIL: "+name)),
		bytes.Contains(v.output, []byte("panic: test timed out")), bytes.Contains(v.output, []byte("the store hangs")):
		return v, fmt.Errorf("%s came to no end: %w", killer, err)
	}
	v.failed = true
	if found := mutantViolation.FindSubmatch(v.output); found != nil {
		v.why = summary(string(found[1]))
	}
	return v, nil
}

// summary is the first part of a test's message, on one line.
func summary(message string) string {
	message = strings.Join(strings.Fields(mutantImagesSeen.ReplaceAllString(message, "")), " ")
	if _, after, ok := strings.Cut(message, " Error: "); ok { // of an assertion, behind the places in the source
		message, _, _ = strings.Cut(after, " Test: ")
	}
	if len(message) > 160 {
		message = message[:160] + " …"
	}
	return message
}

// canBuild skips a test where there is no source to be compiled, or nobody to compile it.
func canBuild(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	if target, err := exec.Command("go", "env", "GOOS", "GOARCH").Output(); err != nil || string(target) != runtime.GOOS+"\n"+runtime.GOARCH+"\n" {
		t.Skipf("this test runs for %s/%s, the go command compiles for %q: %v", runtime.GOOS, runtime.GOARCH, target, err)
	}
}

// Ensures that the tests notice when a rule of the protocol is missing.
func TestMutants(t *testing.T) {
	var chosen []*mutant
	names := regexp.MustCompile(*mutantsFlag)
	for i := range mutants {
		m := &mutants[i]
		if *mutantsFlag == "all" || *mutantsFlag == "few" && m.quick || *mutantsFlag != "" && names.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if *mutantsFlag == "" {
		t.Skip("takes a compilation for each mutant; -alder.mutants asks for it")
	}
	if len(chosen) == 0 {
		t.Fatalf("-alder.mutants=%s: there is none of that name", *mutantsFlag)
	}
	canBuild(t)
	t.Run("none", func(t *testing.T) { mustSurvive(t, chosen) })
	for _, m := range chosen {
		t.Run(m.name, func(t *testing.T) {
			v, err := runMutant(m.build(t), m.killer(), mutantImages)
			switch {
			case err != nil:
				t.Fatalf("%v\n%s", err, v.output)
			case !v.failed:
				t.Fatalf("nobody notices that this rule is missing: %s", m.rule)
			}
			images := ""
			if v.images != "" {
				images = fmt.Sprintf(" after %s images", v.images)
			}
			t.Logf("killed by %s%s, %.1f s: %s", m.killer(), images, v.time.Seconds(), v.why)
			counted(t, "C5", "mutants killed", 1)
		})
	}
}

// mustSurvive lets the killers of some mutants run on the engine as it is.
func mustSurvive(t *testing.T, chosen []*mutant) {
	images := int64(mutantImages)
	if *mutantsFlag == "" {
		images = 10000
	}
	_, public := testFiles(t)
	binaries := map[bool]string{}
	var done []string
	for _, m := range chosen {
		if slices.Contains(done, m.killer()) {
			continue
		}
		done = append(done, m.killer())
		binary, ok := binaries[m.hasTest(t, public)]
		if !ok {
			binary = (&mutant{test: m.test}).build(t)
			binaries[m.hasTest(t, public)] = binary
		}
		if v, err := runMutant(binary, m.killer(), images); err != nil || v.failed {
			t.Errorf("%s fails without a change: %v\n%s", m.killer(), err, v.output)
		}
	}
}

// Ensures that each mutant fits the engine as it is, and has its place in the documentation.
func TestMutants_Fit(t *testing.T) {
	doc, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if _, err := m.change(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if seen[m.name] || m.rule == "" {
			t.Errorf("%s: the name is taken, or there is no rule", m.name)
		}
		if row := fmt.Sprintf("| %s | %s | `%s` |", m.name, m.rule, m.killer()); !strings.Contains(string(doc), row) {
			t.Errorf("docs/testing.md does not have the row: %s", row)
		}
		// (Three had tests of the public API for killers, which are not compiled otherwise: nobody could kill them.)
		if engine, public := testFiles(t); !m.hasTest(t, engine) && !m.hasTest(t, public) {
			t.Errorf("%s: there is no test %s", m.name, m.killer())
		}
		seen[m.name] = true
	}
}
