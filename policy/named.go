package policy

import (
	"fmt"
	"strings"
)

// Named gives a policy the name by which log, metrics and refusals call it.
// Names are for people and labels: letters, digits and underscores, and few of
// them.
func Named(name string, p Policy) Policy { return &named{Policy: p, name: name} }

type named struct {
	Policy
	name string
}

func (n *named) Name() string { return n.name }

// NameOf is the name of a policy: what its method Name() string says, else its
// type's.
func NameOf(p Policy) string {
	if n, ok := p.(interface{ Name() string }); ok {
		if name := n.Name(); name != "" {
			return name
		}
	}
	if p == nil {
		return "nil"
	}
	return strings.TrimLeft(fmt.Sprintf("%T", p), "*")
}

// bare is the policy within its names and Observe, where what else it can do
// shows; watched says that it is only to be observed.
func bare(p Policy) (_ Policy, watched bool) {
	for {
		switch outer := p.(type) {
		case *named:
			p = outer.Policy
		case *observed:
			p, watched = outer.Policy, true
		default:
			return p, watched
		}
	}
}
