"""New roots and issuing CAs for a running lab, under traffic: nobody may be refused meanwhile."""
