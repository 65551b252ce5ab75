package main

func Example() {
	main()
	// Output:
	// attempt 1: [bob@example.org gone@example.org busy@example.org]
	// attempt 2: [busy@example.org]
	// dead for gone@example.org: left the company
}
