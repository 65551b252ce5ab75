package main

func Example() {
	main()
	// Output:
	// text/csv, called "numbers.csv": 5 octets
	// image/gif, called "dot.gif": 14 octets
}
