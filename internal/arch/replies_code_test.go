package arch

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// givenReply is a reply in the code that a server may give.
type givenReply struct{ text, where string }

// givenReplies is all of them, and what hides one from this. made is as above.
func givenReplies(all []*source, made map[string]string) (given []givenReply, faults []string) {
	f := &replyFinder{made: made, unused: make(map[string]bool), named: make(map[string]string)}
	for place := range made {
		f.unused[place] = true
	}
	for _, s := range all {
		if !s.isTest() && givesReplies(s.folder()) {
			for _, decl := range s.file.Decls {
				f.look(s, decl)
			}
		}
	}
	for place := range f.unused {
		f.fault(place + " makes no reply any more")
	}
	f.findUnused(all)
	return f.given, f.faults
}

type replyFinder struct {
	made   map[string]string
	unused map[string]bool   // places of made that were not met
	named  map[string]string // variables that hold a reply, as folder and name: where
	given  []givenReply
	faults []string
}

func (f *replyFinder) fault(text string) { f.faults = append(f.faults, text) }

// look looks at one declaration.
func (f *replyFinder) look(s *source, decl ast.Decl) {
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			f.literal(s, decl, n)
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				sel, ok := to.(*ast.SelectorExpr)
				if ok && (slices.Contains([]string{"Code", "Enhanced"}, sel.Sel.Name) || sel.Sel.Name == "Text" && s.knowsRepliesOnly()) {
					f.fault(s.at(n) + ": a reply made by its parts")
				}
			}
		case *ast.CallExpr:
			f.call(s, n)
		case *ast.ValueSpec:
			if s.isReply(n.Type) {
				f.fault(s.at(n) + ": a reply made by its parts")
			}
			for i, v := range n.Values {
				if u, ok := v.(*ast.UnaryExpr); ok {
					v = u.X
				}
				if lit, ok := v.(*ast.CompositeLit); ok && s.isReply(lit.Type) && i < len(n.Names) {
					f.named[s.folder()+" "+n.Names[i].Name] = s.at(n)
				}
			}
		case *ast.TypeSpec:
			if s.isReply(n.Type) && !(s.folder() == "." && n.Name.Name == "Reply") {
				f.fault(s.at(n) + ": another name for a reply, by which it would not be found")
			}
		case *ast.BasicLit:
			if text, ok := constant(n, token.STRING); ok && rawReply.MatchString(text) {
				f.fault(s.at(n) + ": looks like a reply that goes past the one writer")
			}
		}
		return true
	})
}

var rawReply = regexp.MustCompile(`^[2-5][0-9][0-9][ -].*\r\n`)

// literal takes a reply written as one, or those in a list of them.
func (f *replyFinder) literal(s *source, decl ast.Decl, lit *ast.CompositeLit) {
	if s.isReply(lit.Type) {
		if len(lit.Elts) > 0 {
			f.reply(s, decl, lit)
		}
		return
	}
	f.list(s, decl, lit, lit.Type)
}

// list takes the replies of a list that is written without repeating their type.
func (f *replyFinder) list(s *source, decl ast.Decl, lit *ast.CompositeLit, typ ast.Expr) {
	var of ast.Expr
	switch typ := typ.(type) {
	case *ast.ArrayType:
		of = typ.Elt
	case *ast.MapType:
		of = typ.Value
	}
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if of == nil {
		return
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Value
		}
		if in, ok := e.(*ast.CompositeLit); ok && in.Type == nil {
			if s.isReply(of) {
				f.reply(s, decl, in)
			} else {
				f.list(s, decl, in, of)
			}
		}
	}
}

func (f *replyFinder) reply(s *source, decl ast.Decl, lit *ast.CompositeLit) {
	text, ok := constantReply(lit)
	if !ok {
		place := s.path + " " + nameOf(decl)
		if text, ok = f.made[place]; !ok {
			f.fault(s.at(lit) + ": a reply whose text is not constant: put it into a replies.go")
		}
		delete(f.unused, place)
	}
	if text != "" {
		f.given = append(f.given, givenReply{text, s.at(lit)})
	}
}

// call finds replies that are made by a call.
func (f *replyFinder) call(s *source, call *ast.CallExpr) {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		if fun.Name == "new" && len(call.Args) == 1 && s.isReply(call.Args[0]) {
			f.fault(s.at(call) + ": a reply made by its parts")
		}
		if s.folder() == "policy" && (fun.Name == "Reject" || fun.Name == "Tempfail") {
			f.fault(s.at(call) + ": a reply with a text of its own: put it into a replies.go")
		}
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok && x.Name == "policy" && (fun.Sel.Name == "Reject" || fun.Sel.Name == "Tempfail") {
			f.fault(s.at(call) + ": a reply with a text of its own: put it into a replies.go")
		}
	}
}

// findUnused tells of variables that hold a reply which is never given. That it
// is in the list for documentation is no use of it, nor that it is compared with.
func (f *replyFinder) findUnused(all []*source) {
	used := make(map[string]bool)
	for _, s := range all {
		if s.isTest() {
			continue
		}
		for _, decl := range s.file.Decls {
			if nameOf(decl) != "Replies" {
				givenNames(decl, func(name string) { used[s.folder()+" "+name] = true })
			}
		}
	}
	for name, where := range f.named {
		if !used[name] {
			f.fault(where + ": a reply, and nothing gives it")
		}
	}
}

// givenNames yields the names in a node that it does more with than declare
// them and compare with them.
func givenNames(n ast.Node, yield func(string)) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, v := range n.Values {
				givenNames(v, yield)
			}
			return false
		case *ast.CaseClause:
			for _, stmt := range n.Body {
				givenNames(stmt, yield)
			}
			return false
		case *ast.BinaryExpr:
			return n.Op != token.EQL && n.Op != token.NEQ
		case *ast.Ident:
			yield(n.Name)
		}
		return true
	})
}

// givesReplies reports whether a server's replies may come from a folder.
func givesReplies(folder string) bool {
	return !isOrUnder(folder, "examples") && !isOrUnder(folder, "test") && !isOrUnder(folder, "internal") && folder != "incomingtest"
}

// knowsRepliesOnly reports whether what has a Text in a folder is a reply.
func (s *source) knowsRepliesOnly() bool {
	return s.folder() == "smtp" || isOrUnder(s.folder(), "policy")
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
