"""What people do to a study from elsewhere: requests to its driver, its removal, and another name for it.

Never: decides how a study goes on; `hpo.driver.decisions` does.
"""
