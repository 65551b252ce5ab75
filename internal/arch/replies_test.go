package arch

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// made is the replies whose text is put together when they are given, by where:
// how the manual writes them, or "" where it is the application's text or a
// change of a reply that is listed.
var made = map[string]string{
	"smtp/data.go endText":          "250 2.0.0 Ok: queued as ID",
	"smtp/verbs.go extensions":      "", // EHLO's lines, after the first
	"smtp/serve.go atConnect":       "", // the same as 421 or 554
	"smtp/replies.go named":         "", // with our name for HOST
	"smtp/reply_writer.go sendable": "", // without a code that does not fit
	"policy/replies.go numbered":    "", // with a number for N
	"policy/policy.go Reject":       "",
	"policy/policy.go Tempfail":     "",
}

func TestTheManualListsEachReplyAndNoOther(t *testing.T) {
	t.Parallel()
	listed := listedReplies(t)
	given, where := givenReplies(t)
	for i, reply := range given {
		if !slices.Contains(listed, reply) {
			t.Errorf("docs/replies.md does not list %q, which %s gives", reply, where[i])
		}
	}
	for i, reply := range listed {
		if !slices.Contains(given, reply) {
			t.Errorf("docs/replies.md lists %q, which nothing gives", reply)
		}
		if slices.Contains(listed[:i], reply) {
			t.Errorf("docs/replies.md lists %q twice", reply)
		}
	}
}

var replyRow = regexp.MustCompile("(?m)^\\| `([2-5][0-9][0-9] [^`]+)` \\| ([^|\n]+) \\| ([^|\n]+) \\|$")

// listedReplies is the replies in the manual's tables, each with a meaning and
// what to do.
func listedReplies(t *testing.T) (replies []string) {
	t.Helper()
	page := read(t, filepath.Join(root, "docs/replies.md"))
	for _, m := range replyRow.FindAllStringSubmatch(page, -1) {
		replies = append(replies, m[1])
	}
	if rows := strings.Count(page, "\n| `"); rows != len(replies) || rows < 50 {
		t.Fatalf("docs/replies.md: %d of %d rows are a reply, its meaning, and what to do", len(replies), rows)
	}
	return replies
}

// givenReplies is the replies in the code that a server may give, and where.
func givenReplies(t *testing.T) (replies, where []string) {
	t.Helper()
	unused := make(map[string]bool)
	for place := range made {
		unused[place] = true
	}
	for _, s := range sources(t) {
		if s.isTest() || !givesReplies(s.folder()) {
			continue
		}
		for _, decl := range s.file.Decls {
			ast.Inspect(decl, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok || !s.isReply(lit.Type) || len(lit.Elts) == 0 {
					return true
				}
				text, ok := constantReply(lit)
				if !ok {
					place := s.path + " " + nameOf(decl)
					if text, ok = made[place]; !ok {
						t.Errorf("%s: a reply whose text is not constant: put it into a replies.go", s.at(lit))
					}
					delete(unused, place)
				}
				if text != "" {
					replies, where = append(replies, text), append(where, s.at(lit))
				}
				return true
			})
		}
	}
	for place := range unused {
		t.Errorf("%s makes no reply any more", place)
	}
	return replies, where
}

// givesReplies reports whether a server's replies may come from a folder.
func givesReplies(folder string) bool {
	return !isOrUnder(folder, "examples") && !isOrUnder(folder, "test") && folder != "incomingtest"
}

func (s *source) isReply(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "Reply" && (s.folder() == "smtp" || s.folder() == ".")
	case *ast.SelectorExpr:
		return e.Sel.Name == "Reply"
	}
	return false
}

// constantReply is a literal reply as it goes over the wire.
func constantReply(lit *ast.CompositeLit) (string, bool) {
	fields := map[string]ast.Expr{}
	for i, e := range lit.Elts {
		name := []string{"Code", "Enhanced", "Text"}[i]
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			name, e = kv.Key.(*ast.Ident).Name, kv.Value
		}
		fields[name] = e
	}
	code, ok1 := constant(fields["Code"], token.INT)
	text, ok2 := constant(fields["Text"], token.STRING)
	enhanced, ok3 := "", true
	if e, given := fields["Enhanced"]; given {
		enhanced, ok3 = constantEnhanced(e)
	}
	return code + " " + enhanced + text, ok1 && ok2 && ok3
}

func constantEnhanced(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return "", false
	}
	var parts []string
	for _, n := range lit.Elts {
		part, ok := constant(n, token.INT)
		if !ok {
			return "", false
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "", true
	}
	return strings.Join(parts, ".") + " ", true
}

func constant(e ast.Expr, kind token.Token) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != kind {
		return "", false
	}
	if kind == token.STRING {
		s, err := strconv.Unquote(lit.Value)
		return s, err == nil
	}
	return lit.Value, true
}

func nameOf(decl ast.Decl) string {
	if f, ok := decl.(*ast.FuncDecl); ok {
		return f.Name.Name
	}
	return ""
}
