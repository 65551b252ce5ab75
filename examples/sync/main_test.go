package main

func Example() {
	main()
	// Output:
	// "On ticket 1": <nil>
	// "On ticket 2": 550 5.7.1 Message refused
	// "On ticket 3": 451 4.3.0 Message could not be delivered now, try again later
	// "Your invoice": 554 5.6.0 Send invoices to billing
}
