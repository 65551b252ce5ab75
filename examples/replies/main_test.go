package main

func Example() {
	main()
	// Output:
	// 550 5.1.1 No such address here
	// ticket 4711: "It works now, thank you."
}
