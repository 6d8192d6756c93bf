package data

// First returns the first n records of a set, as a set of its own.
func First(set Set, n int) Set { return &first{Set: set, n: n} }

type first struct {
	Set
	n int
}

func (f *first) Len() int { return f.n }
