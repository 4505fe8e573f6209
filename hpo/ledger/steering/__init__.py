"""What people ask of a running study from elsewhere: requests, and the driver's answers, as the ledger keeps them.

Never: does what is asked; `hpo.driver.steering` does.
"""
