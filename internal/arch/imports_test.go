package arch

import (
	"cmp"
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// law says what a package may import; tests may import anything.
type law struct {
	who    string // its folder; "*" is any one name, "..." is it and all below
	ours   string // which packages of this module; "^" is the one it lies in, "..." any
	beyond string // and what of others
}

const (
	core  = "the standard library and golang.org/x" // what an embedder cannot avoid, or what that is built on
	field = "any library of its field"
)

// laws is the import law: of those that fit the first holds.
var laws = []law{
	// the wire, and what stands by itself
	{"smtp", "", core},
	{"header", "", core},
	{"telemetry", "", core},
	{"telemetry/*", "^ internal/mailbox", field},
	{"proxyproto", "", field},

	// keeping
	{"queue", "header internal/mailbox", core},
	{"queue/diskqueue", "queue telemetry internal/vfs", core},
	{"queue/memqueue", "queue telemetry internal/vfs", core},
	{"queue/queuetest", "queue", field},
	{"queue/*", "queue telemetry", field},
	{"mailparse", "queue header internal/mailbox", field},

	// judging
	{"policy", "smtp header internal/mailbox internal/listfile", core},
	{"policy/resolver", "", field},
	{"policy/internal/policytest", "policy", core},
	{"policy/*", "^ internal/ask internal/sign policy/resolver smtp header mailparse internal/mailbox internal/listfile", field},

	// delivering
	{"delivery", "queue telemetry", core},
	{"delivery/filter", "delivery queue policy smtp header internal/mailbox", field},
	{"delivery/*", "^ internal/sign queue telemetry mailparse internal/mailbox", field},

	// the contracts put together: never a backend, never an adapter
	{".", "smtp header policy queue delivery telemetry internal/mailbox", core},

	{"internal/*", "", core},
	{"internal/*/*", "^", core},

	// users of all that
	{"incomingtest", "...", field},
	{"cmd/...", "...", field},
	{"examples/...", "...", field},
	{"test/...", "...", field},
}

// homes is the one folder in which a package is imported outside tests, so that
// nobody compiles what they do not use, and only a program reads flags.
var homes = []struct{ library, home string }{
	{"flag", "cmd/..."},
	{"testing", "incomingtest queue/queuetest delivery/deliverytest policy/internal/policytest internal/testcert test/..."},
	// R12: what carries mail never takes a message apart, so that no nesting and
	// no number of parts can hurt it.
	{"mime", "mailparse policy/* delivery/* cmd/... examples/... test/..."},
	{"net/mail", "mailparse policy/* delivery/* cmd/... examples/... test/..."},
	{"github.com/pires/go-proxyproto", "proxyproto"},
	{"github.com/emersion/go-message", "mailparse"},
	{"github.com/d--j/go-milter", "policy/milter"},
	{"github.com/prometheus", "telemetry/metrics"},
	{"go.opentelemetry.io", "telemetry/otel"},
	{"github.com/spf13", "cmd/..."},
	{"github.com/coreos/go-systemd", "cmd/..."},
	{"github.com/pelletier/go-toml", "cmd/..."},
}

func TestImportsKeepTheLaw(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		s.imports(func(spec *ast.ImportSpec, imported string) bool {
			if why := breach(s.folder(), imported); why != "" {
				t.Errorf("%s: imports %s: %s", s.at(spec), imported, why)
			}
			return true
		})
	}
}

// The test above would pass if breach found nothing.
func TestABreachIsFound(t *testing.T) {
	t.Parallel()
	ours := func(p string) string { return module + "/" + p }
	for _, c := range []struct {
		folder, imported string
		ok               bool
	}{
		{"smtp", "net", true},
		{"smtp", "golang.org/x/net/idna", true},
		{"smtp", "golang.org/xyz", false},
		{"smtp", "github.com/a/b", false},
		{"smtp", "flag", false},
		{"smtp", "mime/multipart", false},
		{".", "net/mail", false},
		{"header", "mime", false},
		{"delivery/webhook", "mime/multipart", true},
		{"smtp", ours("header"), false},
		{"smtp", module, false},
		{"queue", ours("header"), true},
		{"queue", ours("queue/memqueue"), false},
		{"queue/diskqueue", ours("internal/vfs"), true},
		{"queue/diskqueue", ours("internal/vfs/faultfs"), false},
		{"queue/diskqueue", "go.etcd.io/bbolt", false},
		{"queue/postgres", "github.com/jackc/pgx/v5", true},
		{"policy", ours("queue"), false},
		{"policy/spf", ours("policy"), true},
		{"policy/spf", ours("policy/dkim"), false},
		{"delivery/webhook", ours("delivery"), true},
		{"delivery/webhook", ours("smtp"), false},
		{"delivery/filter", ours("smtp"), true},
		{"telemetry/metrics", "github.com/prometheus/client_golang/prometheus", true},
		{"cmd/incoming", "github.com/prometheus/client_golang/prometheus", false},
		{"telemetry/metrics", ours("queue"), false},
		{"proxyproto", "github.com/pires/go-proxyproto", true},
		{"proxyproto", ours("smtp"), false},
		{"cmd/incoming", "github.com/pires/go-proxyproto", false},
		{".", ours("proxyproto"), false},
		{".", ours("policy"), true},
		{".", ours("queue/memqueue"), false},
		{".", ours("delivery/maildir"), false},
		{".", "github.com/a/b", false},
		{"internal/vfs", ours("queue"), false},
		{"internal/vfs/crashfs", ours("internal/vfs"), true},
		{"cmd/incoming/internal/config", module, true},
		{"cmd/incoming", "flag", true},
		{"queue/diskqueue", "testing", false},
		{"queue/queuetest", "testing", true},
		{"delivery/deliverytest", "testing", true},
		{"delivery/webhook", "testing", false},
		{"util", "fmt", false},
	} {
		if why := breach(c.folder, c.imported); (why == "") != c.ok {
			t.Errorf("%s imports %s: %q", c.folder, c.imported, why)
		}
	}
}

// breach says why a package may not import another; "" when it may.
func breach(folder, imported string) string {
	i := slices.IndexFunc(laws, func(l law) bool { return fits(l.who, folder) })
	if i < 0 {
		return "the law does not know " + folder
	}
	l := laws[i]
	for _, h := range homes {
		if isOrUnder(imported, h.library) && !slices.ContainsFunc(strings.Fields(h.home), func(p string) bool { return fits(p, folder) }) {
			return "that is for " + h.home + " only"
		}
	}
	if isOrUnder(imported, module) {
		ours := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
		if ours == "" {
			ours = "."
		}
		for _, may := range strings.Fields(l.ours) {
			if may == "..." || may == ours || may == "^" && ours == path.Dir(folder) {
				return ""
			}
		}
		return fmt.Sprintf("of ours %s may import: %s", folder, cmp.Or(l.ours, "nothing"))
	}
	standard := !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
	if standard || l.beyond == field || isOrUnder(imported, "golang.org/x") {
		return ""
	}
	return fmt.Sprintf("%s may import %s", folder, l.beyond)
}

// fits reports whether a folder is what a law's who means.
func fits(who, folder string) bool {
	if base, deep := strings.CutSuffix(who, "/..."); deep {
		return isOrUnder(folder, base)
	}
	ok, err := path.Match(who, folder)
	return ok && err == nil
}

func isOrUnder(p, base string) bool { return p == base || strings.HasPrefix(p, base+"/") }
