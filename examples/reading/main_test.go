package main

func Example() {
	main()
	// Output:
	// letter to case-42: Re: Your café
	// The café is closed.
	// öffnungszeiten.pdf application/pdf 9
}
