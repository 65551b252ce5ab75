package milter

import (
	"fmt"
	"slices"
	"strings"

	gomilter "github.com/d--j/go-milter"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
)

// field is one that a filter puts on top.
type field struct{ name, value string }

// apply makes a filter's changes of the header, all or none. A field stands where
// it does in the text for good, so that what is inserted or added goes on top, and
// so does one that is changed: the old one is left out.
func (c *conversation) apply(changes []gomilter.ModifyAction) error {
	var top []*field // topmost first
	var trial policy.Transaction
	for _, ch := range changes {
		value, err := policy.Folded(ch.HeaderValue)
		if err != nil {
			return fmt.Errorf("header field %.100q: %w", ch.HeaderName, err)
		}
		f := &field{ch.HeaderName, value}
		if ch.Type == gomilter.ActionChangeHeader {
			if old := c.nth(ch.HeaderName, ch.HeaderIndex); old != nil {
				top = slices.DeleteFunc(top, func(f *field) bool { return f == old.now })
				old.gone, old.now = true, f
			}
			if value == "" {
				continue
			}
		}
		if err := trial.Prepend(f.name, f.value); err != nil {
			return err
		}
		if ch.Type == gomilter.ActionInsertHeader {
			top = slices.Insert(top, 0, f)
		} else {
			top = append(top, f)
		}
	}
	var withdrawn []header.Field
	for _, s := range c.shown {
		switch {
		case s.gone && s.prepended:
			withdrawn = append(withdrawn, s.Field)
		case s.gone:
			c.t.Remove(s.Field)
		}
	}
	for _, f := range slices.Backward(withdrawn) { // the places of those above stay
		c.t.Withdraw(f)
	}
	for _, f := range slices.Backward(top) {
		if err := c.t.Prepend(f.name, f.value); err != nil {
			return err // not of one that the trial took
		}
	}
	return nil
}

// nth is the n-th field of a name that the filter was shown, counted from 1; nil
// when there is none. One that is gone still counts.
func (c *conversation) nth(name string, n uint32) *shown {
	for i := range c.shown {
		if s := &c.shown[i]; strings.EqualFold(s.Name, name) {
			if n--; n == 0 {
				return s
			}
		}
	}
	return nil
}
