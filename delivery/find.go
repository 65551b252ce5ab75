package delivery

// maxUnwrap is how many errors of a chain or tree are looked at for a verdict:
// an error may be its own cause.
const maxUnwrap = 1000

// find is the outermost verdict in err, as errors.As would find it: a
// *RejectError, *SpentError, *RetryError, *PostponeError or *RecipientsError, or
// nil when there is none. A
// joined error has one only when each of its parts has; it is rejected only when
// each part rejects.
func find(err error) error {
	budget := maxUnwrap
	return findWithin(err, &budget)
}

func findWithin(err error, budget *int) error {
	for err != nil && *budget > 0 {
		*budget--
		if v := verdictIn(err); v != nil {
			return v
		}
		switch u := err.(type) {
		case *RejectError, *SpentError, *RetryError, *PostponeError, *RecipientsError: // nil pointers
			return nil
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			return findInAll(u.Unwrap(), budget)
		default:
			return nil
		}
	}
	return nil
}

// verdictIn is err itself when it is a verdict, or what its method As makes one.
// A nil pointer says nothing: most likely it was meant to be no error at all.
func verdictIn(err error) error {
	switch v := err.(type) {
	case *RejectError:
		return orNil(v)
	case *SpentError:
		return orNil(v)
	case *RetryError:
		return orNil(v)
	case *PostponeError:
		return orNil(v)
	case *RecipientsError:
		return orNil(v)
	}
	as, ok := err.(interface{ As(any) bool })
	if !ok {
		return nil
	}
	var (
		no    *RejectError
		spent *SpentError
		later *RetryError
		wait  *PostponeError
		each  *RecipientsError
	)
	switch {
	case as.As(&no) && no != nil:
		return no
	case as.As(&spent) && spent != nil:
		return spent
	case as.As(&later) && later != nil:
		return later
	case as.As(&wait) && wait != nil:
		return wait
	case as.As(&each) && each != nil:
		return each
	}
	return nil
}

// orNil is v, or nil when v is a nil pointer.
func orNil[E any, P interface {
	*E
	error
}](v P) error {
	if v == nil {
		return nil
	}
	return v
}

func findInAll(errs []error, budget *int) error {
	var found error
	for _, err := range errs {
		if err == nil {
			continue
		}
		v := findWithin(err, budget)
		if v == nil {
			return nil
		}
		if found == nil || final(found) {
			found = v
		}
	}
	return found
}

// final reports whether a verdict ends what it is for without delivery.
func final(verdict error) bool {
	switch verdict.(type) {
	case *RejectError, *SpentError:
		return true
	}
	return false
}
